//! Denies the file system and the network by Landlock.

use landlock::{ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetStatus, Scope};

/// Denies every access that the kernel's Landlock handles. Returns whether it handles files.
///
/// A ruleset without rules allows nothing. Kernels without Landlock, or with an older version,
/// deny less.
pub(super) fn deny_all() -> bool {
    let restrict = || {
        let abi = ABI::V7;
        let ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?
            .scope(Scope::from_all(abi))?;
        ruleset.create()?.restrict_self()
    };
    restrict().is_ok_and(|status| status.ruleset != RulesetStatus::NotEnforced)
}
