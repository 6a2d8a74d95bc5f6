"""What the traces of the runs mean."""
