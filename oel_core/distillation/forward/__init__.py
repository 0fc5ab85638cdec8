"""Forward passes of the student and the layouts of their token sequences."""
