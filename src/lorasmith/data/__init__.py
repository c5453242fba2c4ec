"""From folders of images to an order of samples: scan, captions, buckets, validation images."""
