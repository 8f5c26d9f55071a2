//! Message templates mined from log lines as they stream by.
