"""What the demo model learns from: scenes of shapes, questions about them, a small vocabulary."""
