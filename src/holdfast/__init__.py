"""Proofs about neural networks and the systems they control."""
