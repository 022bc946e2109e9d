/* The coder's kernel: one scan over the entries of a tile, which codes them to two streams.

   docs/format.md, section 7, is the specification; tests/spec_coder.py is written from it alone.
   Integers only, so every machine and every browser gets the same bits. The host lays out a Job and
   all that it points to in linear memory; nothing is allocated here, and no loop depends on what a
   stream says.

   The parts follow in this order, each on those before it. */

#include "types.h"
#include "range_coder.h"
#include "state.h"
#include "model.h"
#include "neighbours.h"
#include "decisions.h"
#include "scan.h"
#include "dc_plane.h"

/* So many bytes, in whole vectors; they may hold anything. */
static void *take(u32 bytes) {
    u8 *start = job.work;
    job.work += (bytes + 15) / 16 * 16;
    return start;
}

static void *take_zeros(u32 bytes) { return __builtin_memset(take(bytes), 0, bytes); }

static void prepare(const Stack *t, u32 height, u32 width, u32 stop, i16 *levels, const i16 *pub) {
    s.stack = t;
    s.height = height;
    s.width = width;
    s.row = width + 2;
    s.plane = height * width;
    s.places = (height + 3) * s.row + 2;
    s.atoms = whole_lanes(t->atoms);
    u32 lanes = 0;
    for (u32 n = 0; n < t->group_count; n++)
        lanes = t->groups[n].atoms > lanes ? t->groups[n].atoms : lanes;
    lanes = whole_lanes(lanes);
    s.levels = levels;
    s.public = pub;
    s.signs = t == job.stack ? model.signs : 0;
    s.prices = 0;
    s.coarser = take_zeros(s.places * s.atoms * sizeof(u16));
    s.own = take(s.places * lanes * sizeof(u16));
    s.known = take(s.places * lanes);
    s.sums = take_zeros(s.places * 9 * sizeof(i32));
    s.gradient = take_zeros(s.plane * 4 * sizeof(i32));
    s.count = take(s.plane * sizeof(u16));
    s.price = take(s.plane * sizeof(i32));
    s.offset = take(lanes * sizeof(i64));
    s.slopes = take_zeros(lanes * INPUTS * sizeof(i16));
    s.public_count = take_zeros(t->atoms * sizeof(u32));
    for (u32 i = 0; pub && i < stop; i++, pub += s.plane)
        for (u32 p = 0; p < s.plane; p++) s.public_count[i] += !!pub[p];
}

static u32 run_dc(void) {
    Blocks b = {(job.height + DC - 1) / DC, (job.width + DC - 1) / DC, 0};
    b.size = b.rows * b.columns;
    u32 count = b.size * DC * DC;
    i16 *stack = take(count * sizeof(i16)), *pub = job.public ? take(count * sizeof(i16)) : 0;
    to_blocks(b, job.levels, stack);
    if (pub) to_blocks(b, job.public, pub);
    prepare(job.dc, b.rows, b.columns, DC * DC, stack, pub);
    if (job.prices) s.prices = take_zeros(count * sizeof(i32));
    scan(0, DC * DC);
    return from_blocks(b, stack, s.prices);
}

static u32 run_job(void) {
    u32 h = job.height, w = job.width, plane = h * w, has_dc = job.dc->atoms > 0;
    open_stream(&job.support, job.mode == DECODE);
    open_stream(&job.values, job.mode == DECODE);
    model = *job.model;
    fill_of_sixteen();
    i32 *prices = job.prices;
    if (prices) __builtin_memset(prices, 0, (job.stop - job.first) * plane * sizeof *prices);
    if (has_dc && !job.first && !run_dc()) return 0;
    prepare(job.stack, h, w, job.stop, job.levels, job.public);
    if (prices) s.prices = prices - job.first * plane;
    if (has_dc) find_gradient(job.levels, take(plane * sizeof(i32)), s.gradient, h, w);
    scan(job.first, job.stop);
    if (job.mode > DECODE) return 1;
    return close_stream(&job.support) & close_stream(&job.values);
}

__attribute__((export_name("run"))) u32 run(Job *given) {
    job = *given;
    u32 well = run_job();
    *given = job;
    return well;
}

/* Bits that are ones with the same probability, in 65536ths, to a stream or from one. */
__attribute__((export_name("flat"))) u32 flat(Coder *c, u8 *bits, u32 count, u32 probability) {
    open_stream(c, c->decodes);
    for (u32 i = 0; i < count; i++) bits[i] = code(c, probability, bits[i]);
    return close_stream(c);
}
