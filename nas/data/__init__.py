"""From pixels to batches: data sets, image files, augmentation, and the randomness that it draws on."""
