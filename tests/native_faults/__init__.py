"""Faults put into other processes, and their triggers for tests."""
