//! From an archive to a prepared revision directory; the host runs the steps in between.
