"""Chunks out of noise: schedules of noise, and samplers of diffusion and flow matching. No network inside."""
