//! What every store that is a server has to stand.

use crate::stage::Stage;

tenure_testkit::fault_suite!(Stage);
