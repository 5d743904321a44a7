"""Collectives in HLO written by hand, in the forms that XLA prints."""

import pytest

from segjax.planning.hlo import (
    Collective,
    KindTotal,
    find_collectives,
    memory_traffic,
    totals,
)

# What CPU and TPU print: layouts with parentheses, tuples, comments, wrapped
# asynchronous operations, groups in four notations.
TEXT = """
HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%sum (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %add.1 = f32[] add(%x, %y)
}

%wrapped (p: f32[8,4]) -> f32[2,4] {
  %p = f32[8,4]{1,0} parameter(0)
  ROOT %reduce-scatter.1 = f32[2,4]{1,0} reduce-scatter(%p), replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%sum
}

%body (c: (s32[], bf16[2,3])) -> (s32[], bf16[2,3]) {
  %c = (s32[], bf16[2,3]{1,0}) parameter(0)
  %collective-permute-start = (bf16[2,3]{1,0:T(8,128)(2,1)S(1)}, bf16[2,3]{1,0:T(8,128)(2,1)S(1)}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%gte), channel_id=1, source_target_pairs={{0,1},{2,3}}
  %collective-permute-done = bf16[2,3]{1,0} collective-permute-done(%collective-permute-start)
  ROOT %t = (s32[], bf16[2,3]{1,0}) tuple(%i, %collective-permute-done)
}

%condition (c: (s32[], bf16[2,3])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

%never (p: f32[4]) -> f32[4] {
  ROOT %all-reduce.99 = f32[4]{0} all-reduce(%p), replica_groups={}, to_apply=%sum
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  %while.1 = (s32[], bf16[2,3]{1,0}) while(%init), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"},"other":1}
  %all-reduce.1 = (f32[64]{0:T(128)S(1)}, f32[7,7,2]{2,1,0:T(8,128)S(1)}, /*index=2*/f32[]{:T(128)}) all-reduce(%a, %b, /*index=2*/%c), channel_id=2, replica_groups=mesh['axis_0'=4,'axis_1'=2,'axis_2'=1] {'axis_0','axis_2'}, use_global_device_ids=true, to_apply=%sum
  %all-reduce.2 = s32[10]{0} all-reduce(%d), replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%sum
  %all-reduce.3 = f32[1000]{0} all-reduce(%d), replica_groups={{0},{1}}, to_apply=%sum
  %all-gather-start.1 = (f32[3]{0}, f32[24]{0}) all-gather-start(%p), replica_groups={}, dimensions={0}
  %all-gather-done.1 = f32[24]{0} all-gather-done(%all-gather-start.1)
  %async-start = ((f32[8,4]{1,0}), f32[2,4]{1,0}, s32[]) async-start(%e), calls=%wrapped
  %async-done = f32[2,4]{1,0} async-done(%async-start), calls=%wrapped
  %use = f32[4]{0} fusion(%all-reduce.1), kind=kLoop, calls=%other, metadata={op_name="all-reduce(x)"}
  ROOT %all-to-all.1 = (pred[6]{0}, pred[6]{0}) all-to-all(%f, %g), replica_groups={{0,1},{2,3}}
}
"""


def test_every_kind_is_found_with_its_size_group_and_repetitions():
    found = find_collectives(TEXT, num_devices=8)
    assert sorted(found, key=lambda c: (c.kind, c.num_bytes)) == [
        Collective("all-gather", num_bytes=24 * 4, group_size=8, times=1),
        Collective("all-reduce", num_bytes=10 * 4, group_size=2, times=1),
        Collective("all-reduce", num_bytes=(64 + 98 + 1) * 4, group_size=4, times=1),
        Collective("all-to-all", num_bytes=12, group_size=2, times=1),
        Collective("collective-permute", num_bytes=2 * 3 * 2, group_size=1, times=5),
        # Its argument: 8x4 numbers. The start and the end call the same computation.
        Collective("reduce-scatter", num_bytes=8 * 4 * 4, group_size=4, times=1),
    ]


def test_a_loop_within_a_loop_multiplies():
    text = """
%inner (p: f32[2]) -> f32[2] {
  ROOT %cp = f32[2]{0} collective-permute(%p), source_target_pairs={{0,1}}
}
%outer (p: f32[2]) -> f32[2] {
  %w = f32[2]{0} while(%p), condition=%c, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %again = f32[2]{0} call(%w), to_apply=%inner
}
ENTRY %main (p: f32[2]) -> f32[2] {
  %unknown = f32[2]{0} while(%p), condition=%c, body=%inner
  ROOT %w = f32[2]{0} while(%unknown), condition=%c, body=%outer, backend_config={"known_trip_count":{"n":"7"}}
}
"""
    (only,) = find_collectives(text, num_devices=2)
    assert only.times == 1 + 7 * (3 + 1)


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("all-reduce", 2 * 1000 * 3 / 4),
        ("all-gather", 1000 * 3 / 4),
        ("reduce-scatter", 1000 * 3 / 4),
        ("all-to-all", 1000 * 3 / 4),
        ("collective-permute", 1000),
    ],
)
def test_what_a_device_sends(kind, sent):
    assert Collective(kind, 1000, group_size=4, times=2).sent_bytes == 2 * sent


def test_totals_add_up_by_kind():
    found = (
        Collective("collective-permute", 10, group_size=1, times=3),
        Collective("all-reduce", 100, group_size=2, times=1),
        Collective("all-reduce", 50, group_size=2, times=2),
    )
    assert totals(found) == (
        KindTotal("all-reduce", count=3, num_bytes=200, sent_bytes=200.0),
        KindTotal("collective-permute", count=3, num_bytes=30, sent_bytes=30.0),
    )


TPU_TEXT = """
HloModule jit_step, is_scheduled=true

%fused (x: bf16[2,3,64]) -> bf16[2,3,64] {
  %x = bf16[2,3,64]{2,1,0:T(8,128)(2,1)} parameter(0)
  ROOT %inside = bf16[2,3,64]{2,1,0:T(8,128)(2,1)} add(%x, %x)
}

%body (c: (s32[], f32[9])) -> (s32[], f32[9]) {
  %c = (s32[]{:T(128)}, f32[9]{0:T(128)}) parameter(0)
  %old = f32[9]{0:T(128)} get-tuple-element(%c), index=1
  %new = f32[9]{0:T(128)} negate(%old)
  ROOT %t = (s32[]{:T(128)}, f32[9]{0:T(128)}) tuple(%i, %new)
}

ENTRY %main (p: bf16[2,3,64]) -> f32[9] {
  %p = bf16[2,3,64]{2,1,0:T(8,128)(2,1)} parameter(0)
  %q = bf16[2,3,64]{1,2,0:T(8,128)(2,1)} parameter(1)
  %near = bf16[2,3,64]{2,1,0:T(8,128)(2,1)S(1)} fusion(%p, %q), kind=kLoop, calls=%fused
  %far = bf16[2,3,64]{2,1,0:T(8,128)(2,1)} fusion(%near), kind=kLoop, calls=%fused
  %copy-start = (f32[16,128]{1,0:T(8,128)S(1)}, f32[16,128]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%w)
  %copy-done = f32[16,128]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %slice-start = ((f32[16,128]{1,0:T(8,128)}), f32[8,128]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%w), slice={[0:8], [0:128]}
  %w = f32[16,128]{1,0:T(8,128)} parameter(2)
  %scalar = f32[]{:T(128)} constant(0)
  %while.1 = (s32[]{:T(128)}, f32[9]{0:T(128)}) while(%init), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %result = f32[9]{0:T(128)} get-tuple-element(%while.1), index=1
}
"""


def test_traffic_is_what_is_stored_padded_and_not_on_the_chip():
    padded = 2 * 8 * 128 * 2  # 3x64 in tiles of 8x128, two bytes each
    turned = 2 * 64 * 128 * 2  # 64x3, the other way round
    assert memory_traffic(TPU_TEXT) == (
        (padded + turned)  # near: reads both, writes on the chip
        + padded  # far: reads on the chip
        + 16 * 128 * 4  # the copy: reads
        + 8 * 128 * 4  # the slice: reads a part
        + 3 * 2 * 128 * 4  # thrice: reads and writes 9 numbers in tiles of 128
    )
