"""Write the tuned model for other programs, and compare what was written with the trained one."""
