"""From the files of published data sets, and of users, to masks of class indices."""
