"""How physics parameters are drawn over the course of a training run, one file each. All but `static` learn from successes and failures."""
