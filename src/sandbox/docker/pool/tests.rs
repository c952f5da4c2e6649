use super::*;

const LIMITS: PoolLimits = PoolLimits { least: 1, most: 3, total: 4 };

fn pool() -> Pool<&'static str, u32> {
    Pool::new(LIMITS)
}

fn life(tenant: Option<&str>, made: Instant, served: u32) -> Life {
    Life { tenant: tenant.map(str::to_owned), made, served }
}

/// Makes what is wanted until nothing is; the containers are numbered on.
fn fill(pool: &mut Pool<&'static str, u32>, now: Instant, next: &mut u32) {
    while let Some(kind) = pool.look(now).wanted {
        *next += 1;
        pool.made(&kind, *next, now).unwrap();
    }
}

#[test]
fn nothing_is_warm_before_it_is_used_and_then_at_least_the_least() {
    let (mut pool, now, mut next) = (pool(), Instant::now(), 0);
    fill(&mut pool, now, &mut next);
    assert_eq!(pool.waiting(), 0);
    assert!(pool.take(&"python", "a", now).is_none());
    fill(&mut pool, now, &mut next);
    assert_eq!(pool.waiting(), 1);
    assert_eq!(pool.take(&"python", "b", now).unwrap().0, 1);
}

#[test]
fn what_is_warm_follows_the_busiest_second_up_to_the_most_and_is_forgotten() {
    let (mut pool, now, mut next) = (pool(), Instant::now(), 0);
    for _ in 0..2 {
        pool.take(&"python", "a", now);
    }
    fill(&mut pool, now, &mut next);
    assert_eq!(pool.waiting(), 2);
    for _ in 0..50 {
        pool.take(&"python", "a", now);
    }
    fill(&mut pool, now, &mut next);
    assert_eq!(pool.waiting(), LIMITS.most);
    // A minute later one a second comes.
    let later = now + Duration::from_secs(61);
    pool.take(&"python", "a", later);
    pool.take(&"python", "a", later + Duration::from_secs(2));
    fill(&mut pool, later + Duration::from_secs(2), &mut next);
    assert_eq!(pool.waiting(), 1);
}

#[test]
fn a_tenants_container_is_never_anothers() {
    let (mut pool, now) = (pool(), Instant::now());
    assert!(pool.take(&"python", "a", now).is_none());
    assert_eq!(pool.put(&"python", 7, life(Some("a"), now, 1), now), None);
    assert!(pool.take(&"python", "b", now).is_none());
    assert!(pool.take_similar(|_| true).is_none());
    assert_eq!(pool.take(&"python", "a", now), Some((7, life(Some("a"), now, 1))));
}

#[test]
fn a_tenant_gets_its_own_before_a_fresh_one() {
    let (mut pool, now) = (pool(), Instant::now());
    assert!(pool.take(&"python", "a", now).is_none());
    assert_eq!(pool.put(&"python", 7, life(Some("a"), now, 1), now), None);
    fill(&mut pool, now, &mut 0);
    assert_eq!(pool.take(&"python", "a", now).unwrap().0, 7);
    assert_eq!(pool.take(&"python", "a", now).unwrap().0, 1);
}

#[test]
fn a_container_goes_when_it_is_old_unused_left_or_has_served_enough() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.take(&"python", "a", now);
    assert_eq!(pool.put(&"python", 8, life(Some("a"), now, SERVED), now), Some(8));
    assert_eq!(pool.put(&"python", 7, life(Some("a"), now, 1), now), None);
    fill(&mut pool, now, &mut 0);
    let look = pool.look(now);
    assert_eq!((look.again, look.gone.len()), (Some(now + LEFT), 0), "the next change is known");
    assert_eq!(pool.look(now + LEFT).gone, [7], "the tenant has left");
    assert_eq!(pool.look(now + UNUSED).gone, [1], "nothing is used any more");
    assert!(pool.look(now + UNUSED).wanted.is_none());

    let long = now + UNUSED;
    pool.take(&"python", "a", long);
    fill(&mut pool, long, &mut 1);
    pool.shelves.get_mut("python").unwrap().used = long + OLD;
    let look = pool.look(long + OLD);
    assert_eq!((look.gone, look.wanted), (vec![2], Some("python")), "an old one is replaced");
}

#[test]
fn the_total_is_held_and_what_was_used_longest_ago_makes_room() {
    let (mut pool, mut now, mut next) = (pool(), Instant::now(), 0);
    for kind in ["bash", "c", "python", "node"] {
        now += Duration::from_secs(1);
        pool.take(&kind, "a", now);
        fill(&mut pool, now, &mut next);
    }
    assert_eq!(pool.waiting(), LIMITS.total);
    now += Duration::from_secs(1);
    pool.take(&"go", "a", now);
    let look = pool.look(now);
    assert_eq!((look.wanted, look.gone), (Some("go"), vec![1]), "bash makes room");
    assert!(pool.look(now).wanted.is_none(), "bash lacks one, but all others were used later");
}

#[test]
fn a_failure_is_tried_again_only_after_its_time() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.take(&"python", "a", now);
    assert_eq!(pool.look(now).wanted, Some("python"));
    assert!(pool.look(now).wanted.is_none(), "one is under way");
    let later = now + Duration::from_secs(5);
    pool.failed(&"python", later);
    let look = pool.look(now);
    assert_eq!((look.wanted, look.again), (None, Some(later)));
    assert_eq!(pool.look(later).wanted, Some("python"));
}

#[test]
fn a_kind_that_is_gone_and_a_closed_pool_keep_nothing() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.take(&"old image", "a", now);
    fill(&mut pool, now, &mut 0);
    assert_eq!(pool.drop_kinds(|kind| *kind == "old image"), [1]);
    assert_eq!(pool.made(&"old image", 2, now), Err(2), "it was under way");

    pool.take(&"python", "a", now);
    fill(&mut pool, now, &mut 2);
    assert_eq!(pool.close(), [3]);
    pool.take(&"python", "a", now);
    assert!(pool.look(now).wanted.is_none());
    assert_eq!(pool.put(&"python", 4, life(Some("a"), now, 1), now), Some(4));
}

#[test]
fn a_pool_of_none_takes_note_of_nothing() {
    let mut pool: Pool<&str, u32> = Pool::new(PoolLimits { least: 0, most: 0, total: 0 });
    let now = Instant::now();
    assert!(pool.take(&"python", "a", now).is_none());
    assert!(pool.look(now).wanted.is_none());
    assert_eq!(pool.put(&"python", 1, life(None, now, 1), now), Some(1));
}

#[test]
fn in_a_full_pool_the_tenant_that_left_first_loses_its_container() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.take(&"python", "a", now);
    for (number, tenant) in ["a", "b", "c", "d"].iter().enumerate() {
        let at = now + Duration::from_secs(number as u64);
        assert_eq!(pool.put(&"python", u32::try_from(number).unwrap(), life(Some(tenant), now, 1), at), None);
    }
    let at = now + Duration::from_secs(9);
    assert_eq!(pool.put(&"python", 9, life(Some("e"), now, 1), at), Some(0), "a's");
    assert_eq!(pool.waiting(), LIMITS.total);
}

#[test]
fn as_many_wait_for_containers_that_are_being_emptied_as_there_are() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.take(&"python", "a", now);
    assert!(!pool.worth_waiting(&"python", "a"), "none is");
    pool.emptying(&"python", "a");
    pool.emptying(&"python", "a");
    assert!(!pool.worth_waiting(&"python", "b"), "they are another's");
    assert!(pool.worth_waiting(&"python", "a"));
    assert!(pool.worth_waiting(&"python", "a"));
    assert!(!pool.worth_waiting(&"python", "a"), "a third makes its own");
    assert_eq!(pool.put(&"python", 7, life(Some("a"), now, 1), now), None);
    pool.emptied(&"python", "a");
    pool.waited(&"python", "a");
    pool.waited(&"python", "a");
    assert_eq!(pool.take(&"python", "a", now).unwrap().0, 7);
    assert!(!pool.worth_waiting(&"python", "a"));
    assert!(pool.shelves["python"].emptying.is_empty(), "nothing is kept of a tenant that waits for nothing");
}
