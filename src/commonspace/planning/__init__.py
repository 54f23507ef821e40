"""What a training costs before it runs, by its config, the shapes of its model and the sizes of its samples."""
