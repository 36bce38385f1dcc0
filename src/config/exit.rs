//! Exit codes of the three programs, as `sysexits.h` names them, so that a unit file or a script can tell them apart.

/// The command line is wrong in a way that the argument parser could not see.
pub const USAGE: u8 = 64;
/// What is in the data directory can't be used: the journal is damaged, or of another version of the program.
pub const DATAERR: u8 = 65;
/// A service that is needed is not there: a port in use, a daemon that does not answer.
pub const UNAVAILABLE: u8 = 69;
/// A defect of this program.
pub const SOFTWARE: u8 = 70;
/// The system refuses a thread, a descriptor or another means: another start may get it.
pub const OSERR: u8 = 71;
/// A file or directory can't be created.
pub const CANTCREAT: u8 = 73;
/// Reading or writing failed.
pub const IOERR: u8 = 74;
/// Not permitted.
pub const NOPERM: u8 = 77;
/// The configuration is wrong.
pub const CONFIG: u8 = 78;
