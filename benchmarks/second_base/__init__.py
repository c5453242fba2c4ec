"""Do the demo base's rules of length and rate hold on a second small base, of another width and
another world (drawn heads)? Subjects of that world, a judge of them, and the comparison."""
