from __future__ import annotations
def left_out(told): return {}
def words(refused): return "x"
