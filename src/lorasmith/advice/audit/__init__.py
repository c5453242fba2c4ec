"""What is wrong or odd about a dataset: rules, each measured on its images and captions."""
