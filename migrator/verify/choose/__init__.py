"""What is trained: models, cells and their runs, devices."""
