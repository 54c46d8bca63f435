"""Generated scenes of shapes, with questions, captions and texts about them."""
