use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn firings() -> impl Strategy<Value = Firing> {
    prop_oneof![Just(Firing::Complete), Just(Firing::Eager)]
}

fn shapes() -> impl Strategy<Value = WindowShape> {
    let offset = -30_i64..30;
    prop_oneof![
        (1_i64..20, offset.clone()).prop_map(|(size, offset)| WindowShape::Tumble { size, offset }),
        (1_i64..6, 1_i64..6, offset.clone()).prop_map(|(slide, n, offset)| WindowShape::Hop {
            size: slide * n,
            slide,
            offset
        }),
        (1_i64..6, 1_i64..6, offset).prop_map(|(step, n, offset)| WindowShape::Cumulate {
            max_size: step * n,
            step,
            offset
        }),
    ]
}

/// All windows of a shape that hold `time`, by enumeration.
fn oracle(shape: WindowShape, time: i64) -> BTreeSet<Window> {
    let mut windows = BTreeSet::new();
    for k in -300..300_i64 {
        let found: Vec<(i64, i64)> = match shape {
            WindowShape::Tumble { size, offset } => vec![(offset + k * size, size)],
            WindowShape::Hop { size, slide, offset } => vec![(offset + k * slide, size)],
            WindowShape::Cumulate { max_size, step, offset } => {
                (1..=max_size / step).map(|n| (offset + k * max_size, n * step)).collect()
            }
            WindowShape::Session { .. } => vec![],
        };
        windows.extend(
            found
                .into_iter()
                .map(|(start, size)| Window { start, end: start + size })
                .filter(|w| w.start <= time && time < w.end),
        );
    }
    windows
}

proptest! {
    #[test]
    fn windows_agree_with_enumeration(
        shape in shapes(),
        firing in firings(),
        time in -150_i64..150,
        lateness in 0_i64..20,
    ) {
        let windows = Windows::new(shape, lateness, firing).expect("valid");
        let expected = oracle(shape, time);
        prop_assert_eq!(windows.windows_of(time).collect::<Vec<_>>(), expected.iter().copied().collect::<Vec<_>>());
        let end = windows.slice_end(time);
        prop_assert!(end - windows.slice_length() <= time && time < end);
        for window in &expected {
            let slices: Vec<i64> = windows.slices_of(*window).collect();
            prop_assert!(slices.contains(&end));
            prop_assert_eq!(slices.len() as i64 * windows.slice_length(), window.end - window.start);
        }
        for watermark in -200..200 {
            let late = expected.iter().all(|w| w.end + lateness <= watermark);
            prop_assert_eq!(windows.is_late(time, watermark), late);
            prop_assert_eq!(time < windows.late_below(watermark), late, "watermark {}", watermark);
            let needs = |w: &Window| match firing {
                Firing::Complete => (w.start..w.end).all(|time| windows.is_late(time, watermark)),
                Firing::Eager => w.end + lateness <= watermark,
            };
            let held_back = windows.held_back(watermark);
            prop_assert!(held_back <= watermark);
            for window in &expected {
                prop_assert_eq!(windows.has_fired(window.end, watermark), needs(window));
                prop_assert_eq!(window.end + lateness <= held_back, needs(window), "held back to {}", held_back);
            }
            prop_assert_eq!(windows.is_dead(end, watermark), expected.iter().all(needs));
            let first = windows.first_unfired(watermark);
            prop_assert!(!windows.has_fired(first, watermark));
            prop_assert!(windows.has_fired(first - windows.slice_length(), watermark));
            prop_assert!(!late || time < watermark, "a row that is not behind the watermark is never late");
        }
    }

    /// Rows, watermarks in any order: each window with a timely row fires once, after its last timely row,
    /// with all of its slices still there.
    #[test]
    fn each_window_fires_once_with_all_timely_rows(
        shape in shapes(),
        firing in firings(),
        lateness in 0_i64..10,
        steps in prop::collection::vec((-60_i64..60, 0_i64..8), 1..60),
    ) {
        let windows = Windows::new(shape, lateness, firing).expect("valid");
        let (mut watermark, mut clock) = (i64::MIN, -60);
        let mut slices: std::collections::BTreeMap<i64, usize> = Default::default();
        let mut fired: std::collections::BTreeMap<Window, usize> = Default::default();
        let mut expected: std::collections::BTreeMap<Window, usize> = Default::default();
        let mut advance = |slices: &mut std::collections::BTreeMap<i64, usize>, from: i64, to: i64| {
            let first = slices.keys().next().copied().unwrap_or(i64::MAX);
            let last = slices.keys().next_back().map_or(i64::MIN, |end| windows.last_window_end(end - 1));
            let mut end = if from == i64::MIN { first } else { first.max(windows.first_unfired(from)) };
            while end <= last && windows.has_fired(end, to) {
                let window = windows.windows_of_slice(end).next().expect("its own last slice");
                let rows: usize = windows.slices_of(window).filter_map(|end| slices.get(&end)).sum();
                if rows > 0 {
                    assert_eq!(fired.insert(window, rows), None, "fires once");
                }
                end += windows.slice_length();
            }
            slices.retain(|end, _| !windows.is_dead(*end, to));
        };
        for (time, step) in steps {
            if !windows.is_late(time, watermark) {
                *slices.entry(windows.slice_end(time)).or_default() += 1;
                for window in oracle(shape, time) {
                    // Fired eagerly, a window that had closed already keeps what it fired with.
                    if firing == Firing::Complete || !is_closed(window.end, lateness, watermark) {
                        *expected.entry(window).or_default() += 1;
                    }
                }
            }
            clock += step;
            advance(&mut slices, watermark, clock);
            watermark = clock;
        }
        advance(&mut slices, watermark, i64::MAX);
        prop_assert!(slices.is_empty());
        prop_assert_eq!(fired, expected);
    }

    #[test]
    fn runs_and_ends_agree_with_single_values(
        shape in shapes(),
        // Few times and many rows of each: short runs and long ones.
        runs in prop::collection::vec((prop_oneof![9 => -100_i64..100, 1 => any::<i64>()], 1_usize..60), 0..20),
    ) {
        let times: Vec<i64> = runs.iter().flat_map(|(time, rows)| std::iter::repeat_n(*time, *rows)).collect();
        let windows = Windows::new(shape, 0, Firing::Complete).expect("valid");
        let expected: Vec<i64> = times.iter().map(|time| windows.slice_end(*time)).collect();
        let ends = windows.slice_ends(&Int64Array::from(times.clone()));
        prop_assert_eq!(ends.values().to_vec(), expected.clone());
        let runs: Vec<SliceRun> = windows.slice_runs(&times).collect();
        let mut next = 0;
        for run in runs {
            prop_assert!(run.first == next && run.rows > 0);
            prop_assert!(expected[next..next + run.rows].iter().all(|end| *end == run.slice_end));
            next += run.rows;
        }
        prop_assert_eq!(next, times.len());
    }
}

#[test]
fn extremes_do_not_overflow() {
    let shape = WindowShape::Hop { size: TIME_LIMIT, slide: TIME_LIMIT, offset: -1 };
    let windows = Windows::new(shape, TIME_LIMIT, Firing::Complete).expect("at the limit");
    for time in [i64::MIN, i64::MAX, 0] {
        for watermark in [i64::MIN, i64::MIN + 1, 0, i64::MAX - 1, i64::MAX] {
            let _ = (windows.slice_end(time), windows.last_window_end(time), windows.late_below(watermark));
            let _ = (windows.has_fired(windows.slice_end(time), watermark), windows.held_back(watermark));
            let _ = (windows.first_unfired(watermark), windows.is_dead(windows.slice_end(time), watermark));
            assert!(!windows.is_late(time, i64::MIN) && windows.is_late(time, i64::MAX));
        }
    }
    let nulls = Int64Array::from(vec![Some(1), None]);
    let tumble = Windows::new(WindowShape::Tumble { size: 10, offset: 0 }, 0, Firing::Complete).expect("valid");
    assert_eq!(tumble.slice_ends(&nulls).null_count(), 1);
}

#[test]
fn bad_shapes_are_refused() {
    for shape in [
        WindowShape::Tumble { size: 0, offset: 0 },
        WindowShape::Hop { size: 10, slide: 3, offset: 0 },
        WindowShape::Hop { size: 10, slide: -5, offset: 0 },
        WindowShape::Cumulate { max_size: i64::MAX, step: 1, offset: 0 },
    ] {
        assert_eq!(Windows::new(shape, 0, Firing::Complete).expect_err("bad").code(), Code::TimeAttribute, "{shape:?}");
    }
    assert!(Windows::new(WindowShape::Tumble { size: 1, offset: 0 }, -1, Firing::Complete).is_err());
}
