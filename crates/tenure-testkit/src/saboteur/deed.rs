//! What a saboteur does.

/// One rule, and how it is broken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Deed {
    /// None: an honest store, to compare with.
    None,
    /// Exclusive claims are granted beside each other.
    DoesNotExclude,
    /// Names that differ by case are the same lock.
    FoldsNames,
    /// The number of seats that a claim names is forgotten.
    ForgetsLimits,
    /// Every grant has the same fence.
    RepeatsFences,
    /// Each fence is lower than the one before.
    LowersFences,
    /// A lock that was free begins its fences anew.
    BeginsFencesAnew,
    /// An eviction leaves the fence as it is.
    EvictsWithoutRaisingTheFence,
    /// A claim that is sent twice is granted twice.
    GrantsDuplicates,
    /// A lease lives on when nobody renews it.
    NeverExpires,
    /// A lease ends before its ttl is over.
    ExpiresEarly,
    /// Renewals are answered and not done.
    RenewsNothing,
    /// A renewal brings an expired lease back.
    RecreatesOnRenewal,
    /// A plain renewal sets the ttl that its sender remembers.
    UndoesChanges,
    /// Several renewals are answered in another order.
    AnswersOutOfOrder,
    /// A release goes by the name and not by the token.
    ReleasesAnybody,
    /// Every release is a success.
    AlwaysReleased,
    /// A waiter is never granted anything.
    LosesHandOvers,
    /// Waiters have no place; whoever asks first after a release has the lock.
    Barges,
    /// Priorities count for nothing.
    IgnoresPriority,
    /// Who came last is served first.
    ServesLastFirst,
    /// Nobody is told of anything, although the store says that it tells.
    WakesNobody,
    /// A second holder that wants to upgrade is told to wait.
    QueuesSecondUpgrade,
    /// A withdrawn upgrade takes the share along.
    LetsGoOfWithdrawnUpgrades,
    /// A downgrade is answered and not done.
    KeepsAllOnDowngrade,
    /// Readers may write the value.
    LetsReadersWrite,
    /// A value given with a release is not written.
    LosesValues,
    /// Who would rather have the value is given the lock.
    IgnoresValues,
    /// An eviction ends whoever holds, whatever fence it names.
    EvictsWhoeverIsThere,
    /// Who was evicted is told that its lease expired.
    ForgetsWhy,
    /// A withdrawn claim that lands later is granted.
    ForgetsWithdrawals,
    /// A withdrawal is answered and not done.
    WithdrawsNothing,
    /// Metadata and actors are dropped.
    ForgetsDetails,
    /// A list shows all there is, whatever was asked for.
    ListsEverything,
}
