"""Create a data set for training from a user's folders of images and annotations."""
