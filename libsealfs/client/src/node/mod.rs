//! What the processes of one user on one node share: runtime directory, arena, keeper protocol.
