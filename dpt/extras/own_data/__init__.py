"""A user's folders of images and annotations, made a data set that trains."""
