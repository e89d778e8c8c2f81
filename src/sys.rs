//! System calls that no library here wraps: the one module that may hold `unsafe`.
