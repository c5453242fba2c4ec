"""Images into a dataset: from folders, archives and sites, and the folders of a project."""
