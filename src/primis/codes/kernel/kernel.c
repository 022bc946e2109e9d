/* The coder's kernel: one scan over the entries of a tile, which codes them to two streams.

   docs/format.md, section 7, is the specification; tests/spec_coder.py is written from it alone.
   Integers only, so every machine and every browser gets the same bits. The host lays out a Job and
   all that it points to in linear memory; nothing is allocated here, and no loop depends on what a
   stream says.

   1 range coder   2 model   3 what is known around a place   4 decisions   5 scan   6 DC plane
   7 run */

#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;

typedef i16 shorts __attribute__((vector_size(16)));
typedef i32 words __attribute__((vector_size(16)));
typedef i64 longs __attribute__((vector_size(16)));
typedef u16 counts __attribute__((vector_size(16)));
typedef u8 bytes __attribute__((vector_size(16)));

/* A function of its own, with all registers for itself. */
#define APART __attribute__((noinline))

enum { ENCODE, DECODE, PRICE, OBSERVE };       /* modes of a Job */
enum { ENTRIES = 0, LEVELS = 4, BITS = 16, FLAGS = 23 }; /* heads of a group, from its first */

enum {
    FEATURES = 14,
    INPUTS = 16, /* the features, the density and UNIT */
    UNIT = 8, /* a feature whose sum is one */
    HIDDEN = 16,
    PAIRS = INPUTS / 2,
    UNITS = HIDDEN / 4, /* vectors of hidden units */
    EXPONENTS = 12,
    MOST_EXPONENT = 14,
    MOST_FEATURE = 8191,
    MOST_SIZE = 15,
    MOST_LOGIT = 11 * 1024,
    HALF = 1 << 15,
    BIT = 1 << 16,      /* of a price */
    UNSEEN = 4 * BIT,   /* price of an entry whose group has none */
    ROW = 5 + FEATURES, /* bytes of an observed decision */
    DC = 4,
    PASSES = 4,
    SIGNS = 5, /* sums of neighbours' levels, with their signs */
    MOST_SIGNED = 2,
    KNOWN_BITS = 2, /* of a level, below its highest: those that have heads, */
    MOST_KNOWN = 3, /* up to this exponent */
    LANES = 8, /* atoms that are looked up together */
};

typedef struct {
    u32 first, atoms, flagged, head, bias, linear; /* its first atom, head, and rows of tables */
} Group;

typedef struct { /* atoms near another, in vectors of LANES weights */
    u32 first, count, weight; /* first atom, a multiple of LANES; vectors; where weights start */
} Span;

typedef struct { /* planes that are scanned together: the code's, or those of the DC plane */
    u32 atoms, group_count;
    const Group *groups;
    const u8 *direction;     /* 2 x atoms */
    const Span *own, *finer; /* near each atom: in its group, from its first; in groups to come */
    const u16 *weights;
} Stack;

/* A head's logistic regression with a small hidden layer; its linear part is a table of its own.
   Inputs lie in pairs: one instruction multiplies and adds pairs. present: if they are above zero. */
typedef struct {
    shorts inner[PAIRS][UNITS], present[INPUTS / 8];
    words outer[UNITS];
} Head;

typedef struct { /* a row of linear weights */
    shorts of[INPUTS / 8];
} Linear;

typedef struct { /* tables of the weights; cost: bits of a zero and of a one, in 65536ths */
    const i32 *bias;
    const Head *heads;
    const Linear *linear; /* of each atom of an entry's head, and of each other head */
    const i32 *mantissa;
    const i16 *signs; /* [atom][pass][SIGNS][2]: where the density is 0; its change per 64 units */
    const u8 *logarithm;
    const u16 *probability;
    const u32 *cost;
} Model;

typedef struct {
    u64 low, high, at; /* at: where a decoder is */
    u8 *data;
    u32 size, capacity, shifts, decodes;
} Coder;

typedef struct {
    u32 mode, height, width, first, stop; /* atoms first to stop are coded, those below known */
    i32 density;
    const Stack *stack, *dc;
    const Model *model;
    i16 *levels;       /* (atoms, height, width) */
    const i16 *public; /* Z_p, where the support is coded given it; else 0 */
    i32 *prices;       /* of atoms first to stop; 0 if only the sum is wanted */
    u8 *rows;          /* observed decisions: head, atom, bit, features */
    u32 row_capacity, row_count;
    u64 price;
    Coder support, values;
    u8 *work;
} Job;

/* 1 range coder: two ends of a 64-bit interval, a byte leaves when both begin with it */

static void open_stream(Coder *c, u32 decodes) {
    c->low = c->at = 0;
    c->high = ~0ull;
    c->shifts = 0;
    c->decodes = decodes;
    for (u32 i = 0; decodes && i < 8; i++) c->at = c->at << 8 | (i < c->size ? c->data[i] : 0);
}

static void put(Coder *c, u32 place, u8 byte) {
    if (place < c->capacity) c->data[place] = byte;
}

static inline u32 code(Coder *c, u32 probability, u32 bit) {
    u64 range = c->high - c->low;
    u64 middle = c->low + (range >> 16) * probability + ((range & 0xffff) * probability >> 16);
    if (c->decodes) bit = c->at <= middle;
    if (bit) c->high = middle;
    else c->low = middle + 1;
    while (!((c->low ^ c->high) >> 56)) {
        if (c->decodes) {
            u32 next = c->shifts + 8;
            c->at = c->at << 8 | (next < c->size ? c->data[next] : 0);
        } else put(c, c->shifts, c->low >> 56);
        c->shifts++;
        c->low <<= 8;
        c->high = c->high << 8 | 255;
    }
    return bit;
}

/* The shortest number in the interval, without zeros at its end. A decoder checks that the stream
   is the very one that an encoder writes. */
static u32 close_stream(Coder *c) {
    u32 bytes = 0;
    u64 last = 0;
    while (last < c->low) {
        bytes++;
        last = bytes < 8 ? c->high & ~(~0ull >> 8 * bytes) : c->high;
    }
    if (c->decodes) {
        u32 ends = !c->size || c->data[c->size - 1];
        return c->at == last && c->size <= c->shifts + bytes && ends;
    }
    for (u32 i = 0; i < bytes; i++) put(c, c->shifts + i, last >> (56 - 8 * i));
    c->size = c->shifts + bytes;
    if (c->size > c->capacity) return 0;
    while (c->size && !c->data[c->size - 1]) c->size--;
    return 1;
}

/* The job and the scan that run: at constant addresses, which a host need not check. */

static Job job;
static Model model;

static struct {
    const Stack *stack;
    u32 height, width, plane;
    u32 row, places;  /* with a border: two above, one below, two between the rows */
    u32 atoms, lanes; /* of the stack, of the group: multiples of LANES */
    i16 *levels;
    const i16 *public;
    const i16 *signs;  /* of the model; 0 where signs are coded without context */
    u32 *public_count; /* of each atom */
    i32 *prices;       /* of all atoms; 0 if only the sum is wanted */
    u16 *coarser;      /* [place][atom]: sizes in coarser groups, by nearness */
    u16 *own;          /* [place][lane]: sizes in the group that is scanned, by nearness */
    i8 *known;         /* [place][lane]: its levels */
    i32 *sums;         /* [coarser groups, last group, own group][here, beside, corner][place] */
    i32 *gradient;     /* [down, across, curvature down, across][position] of the DC plane */
    u16 *count;        /* [position]: entries of the group, which a decoder does not know */
    i32 *price;        /* [position]: of an entry that is not visited; what others are beyond it */
    i64 *offset;       /* [lane]: logit without features, in this pass */
    i16 *slopes;       /* [eight atoms][pair][lane][2]: linear weights, in this pass */
} s;

static struct { /* a visit */
    const Group *group;
    u32 pass, position, place;
} at;

/* 2 model */

/* Where inputs are in the order of their weights: features by number, the density (14), UNIT (15).
   Those of the last two pairs are the same for all atoms of a visit; BEFORE's pair changes with
   each entry of it. */
static const u8 SLOT[INPUTS] = {0, 1, 2, 12, 13, 3, 4, 5, 14, 6, 7, 8, 10, 11, 15, 9};
enum { BEFORE = 5, SHARED = 6 };

/* Inputs of eight atoms. */
static i16 inputs[PAIRS][LANES][2] __attribute__((aligned(16)));

static inline void set_input(u32 number, u32 lane, i32 value) {
    inputs[SLOT[number] / 2][lane][SLOT[number] % 2] = value;
}

static inline void set_inputs(u32 pair, u32 lane, i32 a, i32 b) {
    inputs[pair][lane][0] = a;
    inputs[pair][lane][1] = b;
}

static inline i32 pair_at(u32 pair, u32 lane) {
    i32 both;
    __builtin_memcpy(&both, inputs[pair][lane], sizeof both);
    return both;
}

static inline i32 clip(i64 logit) {
    return logit > MOST_LOGIT ? MOST_LOGIT : logit < -MOST_LOGIT ? -MOST_LOGIT : (i32)logit;
}

static inline words dot(shorts a, shorts b) { return __builtin_wasm_dot_s_i32x4_i16x8(a, b); }

static inline shorts all(i32 pair) { return (shorts)(words){pair, pair, pair, pair}; }

static inline i32 sum_of(words x) { return x[0] + x[1] + x[2] + x[3]; }

/* The first or the second half of four numbers, in 64 bits. */
#define longs_of(x, half) \
    __builtin_convertvector(__builtin_shufflevector(x, x, 2 * (half), 2 * (half) + 1), longs)

/* Many pairs are zero; besides, a branch around each keeps a compiler from loading the weights of
   all before it multiplies any. */
static inline void add_pair(words *hidden, i32 pair, const shorts *inner) {
    if (!pair) return;
    for (u32 k = 0; k < UNITS; k++) hidden[k] += dot(all(pair), inner[k]);
}

static inline i64 of_hidden(const words *hidden, const words *outer) {
    longs sum = {0};
    for (u32 k = 0; k < UNITS; k++) {
        words unit = hidden[k], w = outer[k] & (unit > 0);
        sum += longs_of(unit, 0) * longs_of(w, 0) + longs_of(unit, 1) * longs_of(w, 1);
    }
    return (sum[0] + sum[1]) >> 12;
}

/* Logit without features. */
static inline i64 offset_of(u32 row) {
    const i32 *bias = model.bias + 3 * row;
    i64 r = job.density;
    return bias[0] + bias[1] * r + (bias[2] * r * r >> 6);
}

typedef struct { /* a head that does not tell atoms apart but by their bias */
    Head head;
    Linear linear;
} Common;

static inline Common common(u32 head, u32 linear) {
    return (Common){model.heads[head], model.linear[linear]};
}

/* Logit of a head from all inputs in a lane. */
static __attribute__((always_inline)) inline i32 logit(const Common *of, u32 row, u32 lane) {
    const Head *head = &of->head;
    words hidden[UNITS] = {0}, in[2];
    for (u32 pair = 0; pair < PAIRS; pair++) {
        in[pair / 4][pair % 4] = pair_at(pair, lane);
        add_pair(hidden, pair_at(pair, lane), head->inner[pair]);
    }
    words sums = {0};
    for (u32 k = 0; k < 2; k++) {
        shorts x = (shorts)in[k];
        sums += dot(x, of->linear.of[k]) - dot((shorts)(x > 0), head->present[k]);
    }
    return clip(sum_of(sums) + of_hidden(hidden, head->outer) + offset_of(row));
}

/* Heads of this pass, and those of the group's levels. */
static Head entry;
static Common flag, level_heads[FLAGS - LEVELS];

/* Row of linear weights of a head other than an entry's. */
static inline u32 linear_row(const Group *g, u32 head) {
    return g->linear + LEVELS * g->atoms + head - LEVELS;
}

/* What the inputs of a visit add that its atoms share; the linear part of each lane. */
static struct {
    words hidden[UNITS];
    i32 sum, sums[LANES] __attribute__((aligned(16)));
} shared;

static void open_pass(const Group *g, u32 pass) {
    entry = model.heads[g->head + ENTRIES + pass];
    if (g->flagged) flag = common(g->head + FLAGS + pass, linear_row(g, FLAGS + pass));
    for (u32 i = 0; i < g->atoms; i++) {
        s.offset[i] = offset_of(g->bias + pass * g->atoms + i);
        const i32 *pairs = (const i32 *)(model.linear + g->linear + pass * g->atoms + i);
        i32 *to = (i32 *)s.slopes + i / LANES * PAIRS * LANES + i % LANES;
        for (u32 pair = 0; pair < PAIRS; pair++) to[pair * LANES] = pairs[pair];
    }
}

static inline i32 present_of(u32 slot, i32 value) {
    return value > 0 ? ((const i16 *)entry.present)[slot] : 0;
}

/* What the atoms of a visit share, once its inputs are set. */
static void open_visit(void) {
    words hidden[UNITS] = {0};
    for (u32 pair = SHARED; pair < PAIRS; pair++)
        add_pair(hidden, pair_at(pair, 0), entry.inner[pair]);
    __builtin_memcpy(shared.hidden, hidden, sizeof hidden);
    const i16(*in)[LANES][2] = inputs + SHARED;
    shared.sum = present_of(2 * SHARED, in[0][0][0]) + present_of(2 * SHARED + 1, in[0][0][1]);
    shared.sum += present_of(2 * SHARED + 2, in[1][0][0]);
}

/* The linear part, for eight atoms, of what is the same throughout a visit. */
static void add_linear(const shorts *slopes) {
    const shorts *in = (const shorts *)inputs;
    const words *present = (const words *)entry.present;
    for (u32 half = 0; half < 2; half++) {
        words sum = {shared.sum, shared.sum, shared.sum, shared.sum};
        for (u32 pair = half; pair < 2 * BEFORE; pair += 2) {
            i32 weights = present[pair / 8][pair / 2 % 4];
            sum += dot(in[pair], slopes[pair]) - dot((shorts)(in[pair] > 0), all(weights));
        }
        for (u32 pair = 2 * SHARED + half; pair < 2 * PAIRS; pair += 2)
            sum += dot(in[pair], slopes[pair]);
        ((words *)shared.sums)[half] = sum;
    }
}

/* Logit of an entry whose inputs are in a lane. before, met: the inputs 12 and 13. */
static APART i32 entry_logit(u32 i, u32 lane, i32 before, i32 met) {
    words hidden[UNITS];
    __builtin_memcpy(hidden, shared.hidden, sizeof hidden);
    for (u32 pair = 0; pair < BEFORE; pair++)
        add_pair(hidden, pair_at(pair, lane), entry.inner[pair]);
    i64 sum = s.offset[i] + shared.sums[lane];
    if (before | met) {
        const i16 *w = s.slopes + ((i / LANES * PAIRS + BEFORE) * LANES + lane) * 2;
        sum += w[0] * before + present_of(2 * BEFORE, before);
        sum += w[1] * met + present_of(2 * BEFORE + 1, met);
        add_pair(hidden, before | met << 16, entry.inner[BEFORE]);
    }
    return clip(sum + of_hidden(hidden, entry.outer));
}

static APART i32 level_logit(u32 head, u32 i, u32 lane) {
    u32 row = at.group->bias + head * at.group->atoms + i;
    if (head == LEVELS) return logit(&level_heads[0], row, lane); /* most often, at one address */
    return logit(level_heads + head - LEVELS, row, lane);
}

static inline u32 slot(i32 logit) { return (u32)(logit + MOST_LOGIT) >> 6; }

static inline i32 logarithm(i32 sum) {
    return model.logarithm[sum < MOST_FEATURE ? sum : MOST_FEATURE];
}

static inline shorts logarithms(counts sums) {
    const u8 *table = model.logarithm;
    shorts found = {0};
    sums = __builtin_elementwise_min(sums, (counts){0} + (u16)MOST_FEATURE);
    for (u32 k = 0; k < LANES; k++) found[k] = table[sums[k]];
    return found;
}

static inline bytes swizzle(bytes table, bytes x) {
    typedef i8 signs __attribute__((vector_size(16)));
    return (bytes)__builtin_wasm_swizzle_i8x16((signs)table, (signs)x);
}

/* Logarithms of 16 times numbers below 64, which are looked up in vectors. */
static bytes of_sixteen[4];

static void fill_of_sixteen(void) {
    for (u32 k = 0; k < sizeof of_sixteen; k++) ((u8 *)of_sixteen)[k] = logarithm(16 * k);
}

static inline bytes logarithms_of_16_times(bytes x) {
    bytes found = {0}; /* beyond a vector's 16 numbers a swizzle gives zeros */
    for (u32 k = 0; k < 4; k++) found |= swizzle(of_sixteen[k], x - (u8)(16 * k));
    return found;
}

/* 3 what is known around a place: sums of sizes */

static inline u32 size_of(i32 level) {
    u32 size = level < 0 ? -level : level;
    return size < MOST_SIZE ? size : MOST_SIZE;
}

/* The weights of all that are near an atom come to 152 (to 16 where atoms are learned): times 15,
   and from 4 places, they fit 16 bits. */
static inline void spread(u16 *sums, Span near, u32 size) {
    const counts *weights = (const counts *)(s.stack->weights + near.weight);
    counts *to = (counts *)(sums + near.first);
    for (u32 k = 0; k < near.count; k++) to[k] += weights[k] * (u16)size;
}

static void note_sum(u32 size) {
    const i32 w = s.row;
    i32 *here = s.sums + 6 * s.places + at.place, *beside = here + s.places;
    i32 *corner = beside + s.places;
    *here += size;
    beside[-w] += size;
    beside[-1] += size;
    beside[1] += size;
    beside[w] += size;
    corner[-w - 1] += size;
    corner[-w + 1] += size;
    corner[w - 1] += size;
    corner[w + 1] += size;
}

static void close_group(void) {
    i32 *coarser = s.sums, *last = coarser + 3 * s.places, *own = last + 3 * s.places;
    for (u32 i = 0; i < 3 * s.places; i++) {
        coarser[i] += own[i];
        last[i] = own[i];
        own[i] = 0;
    }
}

static inline counts counts_at(const u16 *sums) {
    counts found;
    __builtin_memcpy(&found, sums, sizeof found);
    return found;
}

static inline counts counts_beside(const u16 *sums, i32 row, i32 step) {
    return counts_at(sums - row) + counts_at(sums - step) + counts_at(sums + step) +
           counts_at(sums + row);
}

/* Sizes of eight levels, of which none is more than 15. */
static inline bytes sizes_at(const i8 *known) {
    i64 eight;
    __builtin_memcpy(&eight, known, sizeof eight);
    typedef i8 levels __attribute__((vector_size(16)));
    return (bytes)__builtin_elementwise_abs((levels)(longs){eight, 0});
}

static inline bytes sizes_beside(const i8 *known, i32 row, i32 step) {
    return sizes_at(known - row) + sizes_at(known - step) + sizes_at(known + step) +
           sizes_at(known + row);
}

#define shorts_of(x) \
    __builtin_convertvector(__builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7), shorts)

/* A gradient or a curvature in the directions of eight atoms, at most MOST_FEATURE. As wherever
   eight are read, those beyond the last atom may be anything: they are not used. */
static inline counts directed(const u8 *direction, i32 down, i32 across) {
    typedef u8 eight __attribute__((vector_size(8)));
    typedef i32 many __attribute__((vector_size(32)));
    eight d, a;
    __builtin_memcpy(&d, direction, sizeof d);
    __builtin_memcpy(&a, direction + s.stack->atoms, sizeof a);
    many sum = __builtin_convertvector(d, many) * down + __builtin_convertvector(a, many) * across;
    sum = __builtin_elementwise_min(sum >> 4, (many){0} + MOST_FEATURE);
    return __builtin_convertvector(sum, counts);
}

static inline void set_pair(u32 pair, shorts a, shorts b) {
    shorts *to = (shorts *)inputs[pair];
    to[0] = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    to[1] = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}

/* Inputs of the eight atoms of the group from its atom i on that stay throughout a visit. */
static APART void look_around(u32 i) {
    const u32 first = at.group->first + i;
    const i32 atoms = s.atoms, lanes = s.lanes, w = s.row;
    const u16 *coarser = s.coarser + at.place * atoms + first, *own = s.own + at.place * lanes + i;
    const i8 *known = s.known + at.place * lanes + i;
    const i32 *d = s.gradient + at.position;
    counts corners = counts_beside(coarser, (w + 1) * atoms, (w - 1) * atoms);
    bytes beside = sizes_beside(known, w * lanes, lanes);
    bytes at_corners = sizes_beside(known, (w + 1) * lanes, (w - 1) * lanes);
    bytes two = logarithms_of_16_times(sizes_at(known - 2 * lanes) +
                                       sizes_at(known - 2 * w * lanes));
    bytes same = logarithms_of_16_times((bytes)(longs){((longs)beside)[0], ((longs)at_corners)[0]});
    bytes same_at_corners = (bytes)(longs){((longs)same)[1], 0};
    set_pair(0, logarithms(counts_at(coarser)),
             logarithms(counts_beside(coarser, w * atoms, atoms)));
    set_pair(1, logarithms(corners), shorts_of(same));
    set_pair(2, shorts_of(same_at_corners), logarithms(counts_beside(own, w * lanes, lanes)));
    const u8 *direction = s.stack->direction + first;
    set_pair(3, logarithms(directed(direction, d[0], d[s.plane])),
             logarithms(directed(direction, d[2 * s.plane], d[3 * s.plane])));
    set_pair(4, shorts_of(two), (shorts){0} + (i16)UNIT);
    add_linear((const shorts *)s.slopes + i / LANES * PAIRS * 2);
}

/* 4 decisions */

static APART void observe(u32 head, u32 atom, u32 lane, u32 bit) {
    u8 *row = job.rows + ROW * job.row_count;
    if (job.row_count++ >= job.row_capacity) return;
    row[0] = head;
    row[1] = head >> 8;
    row[2] = atom;
    row[3] = atom >> 8;
    row[4] = bit;
    for (u32 i = 0; i < FEATURES; i++)
        row[5 + i] = inputs[SLOT[i] / 2][lane][SLOT[i] % 2];
}

/* What a one costs more than a zero, in prices. */
static inline i32 worth(i32 logit) {
    const u32 *cost = model.cost + 2 * slot(logit);
    return cost[1] - cost[0];
}

/* Code one decision, whose truth a decoder does not know. */
static inline u32 decide(Coder *c, i32 logit, u32 truth) {
    if (job.mode != PRICE) return code(c, model.probability[slot(logit)], truth);
    job.price += model.cost[2 * slot(logit) + truth];
    return truth;
}

/* A bit of a level that no context tells of; without a logit zeros and ones are alike. */
static inline u32 plain_bit(const i32 *logit, u32 truth) {
    u32 at = logit ? slot(clip(*logit)) : 0;
    if (job.mode == PRICE) job.price += logit ? model.cost[2 * at + truth] : BIT;
    if (job.mode > DECODE) return truth;
    return code(&job.values, logit ? model.probability[at] : HALF, truth);
}

/* A level with its sign, as its neighbours see it. */
static inline i32 signed_at(const i8 *known) {
    return *known > MOST_SIGNED ? MOST_SIGNED : *known < -MOST_SIGNED ? -MOST_SIGNED : *known;
}

/* The logit of a minus, from what is known of the same atom around. */
static i32 sign_logit(u32 i) {
    const i16 *w = s.signs + ((at.group->first + i) * PASSES + at.pass) * SIGNS * 2;
    const i32 lanes = s.lanes, row = s.row * lanes;
    const i8 *k = s.known + at.place * lanes + i;
    const i32 sums[SIGNS] = {
        signed_at(k - lanes) + signed_at(k + lanes),
        signed_at(k - row) + signed_at(k + row),
        signed_at(k - row - lanes) + signed_at(k - row + lanes) + signed_at(k + row - lanes) +
            signed_at(k + row + lanes),
        signed_at(k - 2 * lanes),
        signed_at(k - 2 * row),
    };
    i32 sum = 0, change = 0;
    for (u32 n = 0; n < SIGNS; n++) {
        sum += w[2 * n] * sums[n];
        change += w[2 * n + 1] * sums[n];
    }
    return sum + (change * job.density >> 6);
}

/* A decision about a level. found: its logit. */
static u32 decide_level(u32 head, u32 i, u32 lane, u32 truth, i32 *found) {
    if (job.mode == OBSERVE) {
        observe(at.group->head + head, i, lane, truth);
        return truth;
    }
    *found = level_logit(head, i, lane);
    return decide(&job.values, *found, truth);
}

/* Head of the bit below the highest, by exponent; those of the next follow, by what it is. */
static const u8 FIRST_BIT[MOST_KNOWN + 1] = {0, 0, 1, 4};

/* Exponent in unary, the bits below the highest, the sign. first: logit of the first decision. */
static i32 code_level(u32 i, u32 lane, i32 truth, i32 *first) {
    u32 size = truth < 0 ? -truth : truth, exponent = 0, found = 1;
    i32 other;
    while (exponent < MOST_EXPONENT) {
        u32 head = LEVELS + (exponent < EXPONENTS ? exponent : EXPONENTS - 1);
        u32 more = size >> (exponent + 1) > 0;
        if (!decide_level(head, i, lane, more, exponent ? &other : first)) break;
        exponent++;
    }
    for (u32 bit = 0; bit < exponent; bit++) {
        u32 one = size >> (exponent - 1 - bit) & 1;
        if (exponent <= MOST_KNOWN && bit < KNOWN_BITS) {
            u32 head = BITS + FIRST_BIT[exponent] + bit * (found - 1);
            one = decide_level(head, i, lane, one, &other);
        } else one = plain_bit(bit ? 0 : model.mantissa + exponent, one);
        found = 2 * found + one;
    }
    i32 minus = s.signs ? sign_logit(i) : 0;
    return plain_bit(s.signs ? &minus : 0, truth < 0) ? -(i32)found : (i32)found;
}

/* 5 scan: groups from coarse to fine, each in four passes over its positions */

/* Whether the group has any entry there. Given the public code: how likely, in 65536ths. */
static APART u32 code_flag(void) {
    const Group *g = at.group;
    const i32 *own = s.sums + 6 * s.places + at.place, *d = s.gradient + at.position;
    i32 down = d[0], across = d[s.plane], bend = d[2 * s.plane], bend_across = d[3 * s.plane];
    for (u32 k = 0; k < 6; k++) set_input(k, 0, logarithm(s.sums[k * s.places + at.place]));
    set_input(6, 0, logarithm(own[s.places]));
    set_input(7, 0, logarithm(own[2 * s.places]));
    set_input(8, 0, logarithm(own[-2] + own[-2 * (i32)s.row]));
    set_input(9, 0, logarithm(down > across ? down : across));
    set_input(10, 0, logarithm(bend > bend_across ? bend : bend_across));
    for (u32 k = 11; k < FEATURES; k++) set_input(k, 0, 0);
    set_input(FEATURES, 0, job.density);
    set_input(FEATURES + 1, 0, UNIT);
    u32 head = g->head + FLAGS + at.pass, row = g->bias + FLAGS * g->atoms + at.pass;
    u32 count = job.mode == DECODE ? 0 : s.count[at.position];
    if (job.mode == OBSERVE) {
        observe(head, 0, 0, count > 0);
        return count > 0;
    }
    i32 score = logit(&flag, row, 0);
    if (s.public) return model.probability[slot(score)];
    if (job.mode == PRICE && count <= 1) s.price[at.position] += worth(score);
    return decide(&job.support, score, count > 0);
}

/* Given the public code: p / (p + (1 - p) d), d half the public entries of the atom over its
   positions. */
static u32 code_given_public(u32 atom, u64 p, u32 truth) {
    u64 yes = p * 2 * s.plane, no = (65536 - p) * s.public_count[atom];
    u64 given = (yes << 16) / (yes + no);
    return code(&job.support, given < 1 ? 1 : given > 65535 ? 65535 : given, truth);
}

static APART void code_entries(u32 likely) {
    const Group *g = at.group;
    const i32 *sums = s.sums + at.place;
    const u16 *own = s.own + at.place * s.lanes;
    i32 met = 0, met_before = 0;
    i32 here = logarithm(sums[0]), around = logarithm(sums[s.places] + sums[2 * s.places]);
    i32 group_around = logarithm(sums[7 * s.places] + sums[8 * s.places]);
    for (u32 lane = 0; lane < LANES; lane++) {
        set_inputs(SHARED, lane, here, around);
        set_inputs(SHARED + 1, lane, group_around, job.density);
    }
    open_visit();
    for (u32 i = 0; i < g->atoms; i++) {
        u32 lane = i % LANES, atom = g->first + i, to = atom * s.plane + at.position, bit;
        if (!lane) look_around(i);
        i16 *level = s.levels + to;
        if (s.public && !s.public[to]) continue;
        i32 before = met ? logarithm(own[i]) : 0, score = 0, first;
        set_inputs(BEFORE, lane, before, met_before);
        if (job.mode == OBSERVE) {
            observe(g->head + ENTRIES + at.pass, i, lane, !!*level);
            bit = !!*level;
        } else score = entry_logit(i, lane, before, met_before);
        if (s.public) {
            u64 p = model.probability[slot(score)];
            bit = code_given_public(atom, g->flagged ? p * likely >> 16 : p, !!*level);
            *level = bit ? s.public[to] : 0;
        } else {
            if (job.mode != OBSERVE) bit = decide(&job.support, score, !!*level);
            if (bit) *level = code_level(i, lane, *level, &first);
            i32 level_cost = bit && job.mode == PRICE ? BIT + model.cost[2 * slot(first)] : 0;
            if (s.prices) s.prices[to] = worth(score) + level_cost - UNSEEN;
        }
        if (!bit) continue;
        u32 size = size_of(*level);
        met += size;
        met_before = logarithm(met);
        s.known[at.place * s.lanes + i] = *level < 0 ? -size : size;
        spread(s.own + at.place * s.lanes, s.stack->own[atom], size);
        spread(s.coarser + at.place * s.atoms, s.stack->finer[atom], size);
    }
    if (met) note_sum(met);
}

/* Sums of a group whose levels are known. */
static void note_known(void) {
    const Group *g = at.group;
    u32 met = 0;
    for (u32 atom = g->first; atom < g->first + g->atoms; atom++) {
        u32 size = size_of(s.levels[atom * s.plane + at.position]);
        met += size;
        if (size) spread(s.coarser + at.place * s.atoms, s.stack->finer[atom], size);
    }
    if (met) note_sum(met);
}

static inline u32 whole_lanes(u32 atoms) { return (atoms + LANES - 1) / LANES * LANES; }

static void open_group(const Group *g) {
    s.lanes = whole_lanes(g->atoms);
    __builtin_memset(s.own, 0, s.places * s.lanes * sizeof *s.own);
    __builtin_memset(s.known, 0, s.places * s.lanes);
    __builtin_memset(s.count, 0, s.plane * sizeof *s.count);
    for (u32 p = 0; p < s.plane; p++) s.price[p] = UNSEEN;
    for (u32 k = LEVELS; k < FLAGS; k++)
        level_heads[k - LEVELS] = common(g->head + k, linear_row(g, k));
    if (job.mode == DECODE || !g->flagged) return;
    const i16 *levels = s.levels + g->first * s.plane;
    for (u32 i = 0; i < g->atoms; i++, levels += s.plane)
        for (u32 p = 0; p < s.plane; p++) s.count[p] += levels[p] != 0;
}

static void add_prices(const Group *g) {
    i32 *prices = s.prices + g->first * s.plane;
    for (u32 i = 0; i < g->atoms; i++, prices += s.plane)
        for (u32 p = 0; p < s.plane; p++) prices[p] += s.price[p];
}

static void scan(u32 first, u32 stop) {
    static const u8 tops[4] = {0, 1, 0, 1}, lefts[4] = {0, 1, 1, 0};
    for (u32 n = 0; n < s.stack->group_count; n++) {
        const Group *g = s.stack->groups + n;
        if (g->first >= stop) break;
        at.group = g;
        open_group(g);
        for (u32 pass = 0; pass < PASSES; pass++) {
            open_pass(g, pass);
            at.pass = pass;
            for (u32 y = tops[pass]; y < s.height; y += 2)
                for (u32 x = lefts[pass]; x < s.width; x += 2) {
                    at.position = y * s.width + x;
                    at.place = (y + 2) * s.row + x + 2;
                    u32 likely = 1;
                    if (g->first < first) {
                        note_known();
                        continue;
                    }
                    if (g->flagged) likely = code_flag();
                    if (likely) code_entries(likely);
                }
        }
        if (s.prices && g->first >= first) add_prices(g);
        close_group();
    }
}

/* 6 DC plane: blocks of 4 x 4 positions, and how its means change from position to position */

static const u8 DOWN[16] = {0, 0, 1, 1, 0, 2, 1, 2, 2, 0, 3, 1, 3, 2, 3, 3};
static const u8 ACROSS[16] = {0, 1, 0, 1, 2, 0, 2, 1, 2, 3, 0, 3, 1, 3, 2, 3};

/* round(64 x DCT) of so many samples: [samples][frequency][sample] */
static const i8 COSINE[5][4][4] = {
    {{0}},
    {{64}},
    {{45, 45}, {45, -45}},
    {{37, 37, 37}, {45, 0, -45}, {26, -52, 26}},
    {{32, 32, 32, 32}, {42, 17, -17, -42}, {32, -32, -32, 32}, {17, -42, 42, -17}},
};

static inline i32 absolute(i32 value) { return value < 0 ? -value : value; }

static void find_gradient(const i16 *dc, i32 *means, i32 *gradient, u32 height, u32 width) {
    u32 plane = height * width;
    for (u32 p = 0; p < plane; p++) {
        u32 y = p / width, x = p % width, top = y / DC * DC, left = x / DC * DC;
        u32 rows = height - top < DC ? height - top : DC;
        u32 columns = width - left < DC ? width - left : DC;
        i64 sum = 0;
        for (u32 u = 0; u < rows; u++)
            for (u32 v = 0; v < columns; v++) {
                i32 cosines = COSINE[rows][u][y - top] * COSINE[columns][v][x - left];
                sum += (i64)cosines * dc[(top + u) * width + left + v];
            }
        means[p] = sum >> 12;
    }
    for (u32 p = 0; p < plane; p++) {
        i32 mean = means[p], above = means[p < width ? p : p - width];
        i32 below = means[p + width < plane ? p + width : p];
        i32 left = means[p % width ? p - 1 : p], right = means[(p + 1) % width ? p + 1 : p];
        gradient[p] = absolute(above - below);
        gradient[plane + p] = absolute(left - right);
        gradient[2 * plane + p] = absolute(above + below - 2 * mean);
        gradient[3 * plane + p] = absolute(left + right - 2 * mean);
    }
}

/* 7 run */

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

typedef struct { /* blocks of the DC plane */
    u32 rows, columns, size;
} Blocks;

static void to_blocks(Blocks b, const i16 *plane, i16 *stack) {
    for (u32 i = 0; i < b.size * DC * DC; i++) {
        u32 atom = i / b.size, y = i % b.size / b.columns * DC + DOWN[atom];
        u32 x = i % b.columns * DC + ACROSS[atom];
        stack[i] = y < job.height && x < job.width ? plane[y * job.width + x] : 0;
    }
}

/* 0 if an entry lies outside the tile. */
static u32 from_blocks(Blocks b, const i16 *stack, const i32 *prices) {
    for (u32 i = 0; i < b.size * DC * DC; i++) {
        u32 atom = i / b.size, y = i % b.size / b.columns * DC + DOWN[atom];
        u32 x = i % b.columns * DC + ACROSS[atom];
        if (y >= job.height || x >= job.width) {
            if (stack[i]) return 0;
            continue;
        }
        job.levels[y * job.width + x] = stack[i];
        if (prices) job.prices[y * job.width + x] = prices[i];
    }
    return 1;
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
