//! Source folder to plan to prepared revision directory.
