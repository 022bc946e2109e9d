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

enum { ENCODE, DECODE, PRICE, OBSERVE };       /* modes of a Job */
enum { ENTRIES = 0, LEVELS = 4, FLAGS = 16 };  /* heads of a group, from its first */

enum {
    FEATURES = 14,
    INPUTS = 16, /* the features, the density and one */
    HIDDEN = 16,
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
};

typedef struct {
    u32 first, atoms, flagged, head, bias; /* its first atom, head, and row of the biases */
} Group;

typedef struct { /* of an atom: those near it in groups to come, in vectors of 8 weights */
    u32 first, count, weight; /* its first atom, a multiple of 8; vectors; where the weights start */
} Finer;

typedef struct { /* planes that are scanned together: the code's, or those of the DC plane */
    u32 atoms, group_count;
    const Group *groups;
    const u16 *near_start, *near_atom; /* of each atom: those near it in frequency, in order */
    const u8 *near_weight, *direction; /* direction: 2 x atoms */
    const Finer *finer;
    const u16 *finer_weight;
} Stack;

typedef struct { /* tables of the weights; cost: bits of a zero and of a one, in 65536ths */
    const i32 *bias;
    const i16 *linear, *inner;
    const i32 *outer, *mantissa;
    const i16 *signs; /* [atom][pass][SIGNS] */
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

/* The shortest number in the interval, without zeros at its end. A decoder checks that the stream is
   the very one that an encoder writes. */
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

/* 2 model: a head's logistic regression with a small hidden layer. inner: [head][pair of inputs]
   [hidden][2], so that one instruction multiplies and adds pairs; linear: [head][2][INPUTS]. */

typedef i16 shorts __attribute__((vector_size(16)));
typedef i32 words __attribute__((vector_size(16)));
typedef i64 longs __attribute__((vector_size(16)));
typedef u16 counts __attribute__((vector_size(16)));

static inline i32 clip(i64 logit) {
    return logit > MOST_LOGIT ? MOST_LOGIT : logit < -MOST_LOGIT ? -MOST_LOGIT : (i32)logit;
}

static inline words dot(shorts a, shorts b) { return __builtin_wasm_dot_s_i32x4_i16x8(a, b); }

/* The first or the second half of four numbers, in 64 bits. */
#define longs_of(x, half) \
    __builtin_convertvector(__builtin_shufflevector(x, x, 2 * (half), 2 * (half) + 1), longs)

static i32 logit(const Job *job, u32 head, u32 row, i16 *inputs) {
    const Model *m = job->model;
    const shorts *inner = (const shorts *)(m->inner + head * INPUTS * HIDDEN);
    const shorts *linear = (const shorts *)(m->linear + head * 2 * INPUTS);
    const words *outer = (const words *)(m->outer + head * HIDDEN);
    const i32 *bias = m->bias + 3 * row;
    const shorts *in = (const shorts *)inputs;
    words hidden[HIDDEN / 4] = {0};
    for (u32 pair = 0; pair < INPUTS / 2; pair++) {
        i32 both = ((const i32 *)inputs)[pair];
        shorts x = (shorts)(words){both, both, both, both};
        for (u32 k = 0; k < HIDDEN / 4; k++) hidden[k] += dot(x, *inner++);
    }
    words sums = dot(in[0], linear[0]) + dot(in[1], linear[1]);
    sums += dot((shorts)(in[0] > 0) & 1, linear[2]) + dot((shorts)(in[1] > 0) & 1, linear[3]);
    longs of_units = {0};
    for (u32 k = 0; k < HIDDEN / 4; k++) {
        words unit = hidden[k] & (hidden[k] > 0), w = outer[k];
        of_units += longs_of(unit, 0) * longs_of(w, 0) + longs_of(unit, 1) * longs_of(w, 1);
    }
    i64 of_hidden = of_units[0] + of_units[1], r = job->density;
    i64 sum = sums[0] + sums[1] + sums[2] + sums[3] + (of_hidden >> 12);
    return clip(sum + bias[0] + bias[1] * r + (bias[2] * r * r >> 6));
}

static inline u32 slot(i32 logit) { return (u32)(logit + MOST_LOGIT) >> 6; }

static inline i16 logarithm(const Job *job, i64 sum) {
    return job->model->logarithm[sum < MOST_FEATURE ? sum : MOST_FEATURE];
}

/* 3 what is known around a place: sums of sizes, kept as entries become known */

typedef struct {
    Job *job;
    const Stack *stack;
    u32 height, width, row, plane, places; /* row, places: with a border of one place */
    u32 atoms;                             /* a multiple of 8, for `near` and `own` */
    i16 *levels;
    const i16 *public;
    const i16 *signs;  /* of the model; 0 where signs are coded without context */
    u32 *public_count; /* of each atom */
    i32 *prices;
    u16 *near;     /* [place][here, beside, corner][atom]: coarser groups, by nearness */
    u16 *own;      /* [place][beside x 16, corner x 16, beside by nearness][atom]: its own group */
    i32 *sums;     /* [coarser groups, last group, own group][here, beside, corner][place] */
    i32 *gradient; /* [down, across, curvature down, across][position] of the DC plane */
} Scan;

static inline u32 size_of(i32 level) {
    u32 size = level < 0 ? -level : level;
    return size < MOST_SIZE ? size : MOST_SIZE;
}

static inline void add(u16 *sum, u32 more) {
    u32 to = *sum + more;
    *sum = to < MOST_FEATURE ? to : MOST_FEATURE;
}

static inline counts limited(counts sums) {
    return __builtin_elementwise_min(sums, (counts){0} + (u16)MOST_FEATURE);
}

static void note(Scan *s, const Group *g, u32 atom, u32 place, i32 level) {
    const Stack *t = s->stack;
    const i32 w = s->row, steps[9] = {0, -w, -1, 1, w, -w - 1, -w + 1, w - 1, w + 1};
    const u32 size = size_of(level), atoms = s->atoms, end = t->near_start[atom + 1];
    u32 first = t->near_start[atom];
    while (first < end && t->near_atom[first] < g->first) first++;
    u32 last = first;
    while (last < end && t->near_atom[last] < g->first + g->atoms) last++;
    const Finer f = t->finer[atom];
    const counts *weights = (const counts *)(t->finer_weight + f.weight);
    counts more[f.count + 1];
    for (u32 i = 0; i < f.count; i++) more[i] = weights[i] * (u16)size;
    for (u32 k = 0; k < 9; k++) {
        u32 kind = (k > 0) + (k > 4), at = place + steps[k];
        counts *near = (counts *)(s->near + (at * 3 + kind) * atoms + f.first);
        u16 *own = s->own + at * 3 * atoms;
        s->sums[(6 + kind) * s->places + at] += size;
        for (u32 i = 0; i < f.count; i++) near[i] = limited(near[i] + more[i]);
        if (kind) add(own + (kind - 1) * atoms + atom, 16 * size);
        if (kind == 1)
            for (u32 i = first; i < last; i++)
                add(own + 2 * atoms + t->near_atom[i], t->near_weight[i] * size);
    }
}

static void close_group(Scan *s) {
    i32 *coarser = s->sums, *last = coarser + 3 * s->places, *own = last + 3 * s->places;
    for (u32 i = 0; i < 3 * s->places; i++) {
        coarser[i] += own[i];
        last[i] = own[i];
        own[i] = 0;
    }
}

/* 4 decisions */

static void observe(Job *job, u32 head, u32 atom, const i16 *inputs, u32 bit) {
    u8 *row = job->rows + ROW * job->row_count;
    if (job->row_count++ >= job->row_capacity) return;
    row[0] = head;
    row[1] = head >> 8;
    row[2] = atom;
    row[3] = atom >> 8;
    row[4] = bit;
    for (u32 i = 0; i < FEATURES; i++) row[5 + i] = inputs[i];
}

/* What a one costs more than a zero, in prices. */
static inline i32 worth(const Job *job, i32 logit) {
    const u32 *cost = job->model->cost + 2 * slot(logit);
    return cost[1] - cost[0];
}

/* Code one decision, whose truth a decoder does not know; its logit comes back too. */
static inline u32 decide(Job *job, Coder *c, u32 head, u32 row, u32 atom, i16 *inputs, u32 truth,
                         i32 *found) {
    if (job->mode == OBSERVE) {
        observe(job, head, atom, inputs, truth);
        return truth;
    }
    *found = logit(job, head, row, inputs);
    if (job->mode != PRICE) return code(c, job->model->probability[slot(*found)], truth);
    job->price += job->model->cost[2 * slot(*found) + truth];
    return truth;
}

/* A bit of a level that no context tells of; without a logit zeros and ones are alike. */
static inline u32 plain_bit(Job *job, const i32 *logit, u32 truth) {
    u32 at = logit ? slot(clip(*logit)) : 0;
    if (job->mode == PRICE) job->price += logit ? job->model->cost[2 * at + truth] : BIT;
    if (job->mode > DECODE) return truth;
    return code(&job->values, logit ? job->model->probability[at] : HALF, truth);
}

typedef struct {
    const Group *group;
    u32 pass, y, x, position, place;
} Visit;

/* A level with its sign, as its neighbours see it; 0 outside the tile. */
static inline i32 signed_at(const Scan *s, const i16 *plane, i32 y, i32 x) {
    if (y < 0 || x < 0 || y >= (i32)s->height || x >= (i32)s->width) return 0;
    i32 level = plane[y * (i32)s->width + x];
    return level > MOST_SIGNED ? MOST_SIGNED : level < -MOST_SIGNED ? -MOST_SIGNED : level;
}

/* The logit of a minus, from what this pass knows of the same atom around. */
static i32 sign_logit(const Scan *s, const Visit *v, u32 atom) {
    const i16 *w = s->signs + (atom * PASSES + v->pass) * SIGNS, *plane = s->levels + atom * s->plane;
    const i32 y = v->y, x = v->x;
    i32 sum = w[3] * signed_at(s, plane, y, x - 2) + w[4] * signed_at(s, plane, y - 2, x);
    if (v->pass >= 2) {
        sum += w[0] * (signed_at(s, plane, y, x - 1) + signed_at(s, plane, y, x + 1));
        sum += w[1] * (signed_at(s, plane, y - 1, x) + signed_at(s, plane, y + 1, x));
    }
    for (u32 k = 0; v->pass & 1 && k < 4; k++)
        sum += w[2] * signed_at(s, plane, y + (k & 1 ? 1 : -1), x + (k & 2 ? 1 : -1));
    return sum;
}

/* Exponent in unary, the bits below the highest, the sign. first: logit of the first decision. */
static i32 code_level(Scan *s, const Visit *v, u32 i, i16 *inputs, i32 truth, i32 *first) {
    Job *job = s->job;
    const Group *g = v->group;
    u32 size = truth < 0 ? -truth : truth, exponent = 0, found = 1;
    while (exponent < MOST_EXPONENT) {
        u32 k = LEVELS + (exponent < EXPONENTS ? exponent : EXPONENTS - 1);
        i32 other, *out = exponent ? &other : first;
        u32 more = size >> (exponent + 1) > 0, row = g->bias + k * g->atoms + i;
        if (!decide(job, &job->values, g->head + k, row, i, inputs, more, out)) break;
        exponent++;
    }
    for (u32 bit = 0; bit < exponent; bit++) {
        const i32 *first_bit = bit ? 0 : job->model->mantissa + exponent;
        found = 2 * found + plain_bit(job, first_bit, size >> (exponent - 1 - bit) & 1);
    }
    i32 minus = s->signs ? sign_logit(s, v, g->first + i) : 0;
    return plain_bit(job, s->signs ? &minus : 0, truth < 0) ? -(i32)found : (i32)found;
}

/* 5 scan: groups from coarse to fine, each in four passes over its positions */

/* Whether the group has any entry there. Given the public code: how likely, in 65536ths. */
static u32 code_flag(Scan *s, const Visit *v) {
    Job *job = s->job;
    const Group *g = v->group;
    const i32 *own = s->sums + 6 * s->places + v->place, *d = s->gradient + v->position;
    i16 in[INPUTS] __attribute__((aligned(16))) = {0};
    for (u32 k = 0; k < 6; k++) in[k] = logarithm(job, s->sums[k * s->places + v->place]);
    i32 left = v->x >= 2 ? own[-2] : 0, above = v->y >= 2 ? own[-2 * (i32)s->row] : 0;
    i32 down = d[0], across = d[s->plane], bend = d[2 * s->plane], bend_across = d[3 * s->plane];
    in[6] = logarithm(job, own[s->places]);
    in[7] = logarithm(job, own[2 * s->places]);
    in[8] = logarithm(job, left + above);
    in[9] = logarithm(job, down > across ? down : across);
    in[10] = logarithm(job, bend > bend_across ? bend : bend_across);
    in[FEATURES] = job->density;
    in[FEATURES + 1] = 1;
    u32 head = g->head + FLAGS + v->pass, row = g->bias + FLAGS * g->atoms + v->pass;
    if (s->public) return job->model->probability[slot(logit(job, head, row, in))];
    u32 count = 0;
    i16 *levels = s->levels + g->first * s->plane + v->position;
    for (u32 i = 0; job->mode != DECODE && i < g->atoms; i++) count += !!levels[i * s->plane];
    i32 found;
    u32 any = decide(job, &job->support, head, row, 0, in, count > 0, &found);
    i32 *prices = s->prices + g->first * s->plane + v->position;
    for (u32 i = 0; job->mode == PRICE && count <= 1 && i < g->atoms; i++)
        prices[i * s->plane] += worth(job, found);
    return any;
}

/* Given the public code: p / (p + (1 - p) d), d half the public entries of the atom over its
   positions. */
static u32 code_given_public(Scan *s, u32 atom, u64 p, u32 truth) {
    u64 yes = p * 2 * s->plane, no = (65536 - p) * s->public_count[atom];
    u64 given = (yes << 16) / (yes + no);
    return code(&s->job->support, given < 1 ? 1 : given > 65535 ? 65535 : given, truth);
}

static void code_entries(Scan *s, const Visit *v, u32 flag) {
    Job *job = s->job;
    const Group *g = v->group;
    const Stack *t = s->stack;
    const u32 atoms = s->atoms;
    const i32 *sums = s->sums + v->place, *d = s->gradient + v->position;
    const u16 *near = s->near + v->place * 3 * atoms, *own = s->own + v->place * 3 * atoms;
    u16 here[g->atoms];
    for (u32 i = 0; i < g->atoms; i++) here[i] = 0;
    u32 met = 0;
    i16 in[INPUTS] __attribute__((aligned(16))) = {0};
    in[3] = logarithm(job, sums[0]);
    in[4] = logarithm(job, sums[s->places] + sums[2 * s->places]);
    in[8] = logarithm(job, sums[7 * s->places] + sums[8 * s->places]);
    in[FEATURES] = job->density;
    in[FEATURES + 1] = 1;
    const u8 *table = job->model->logarithm;
    for (u32 i = 0; i < g->atoms; i++) {
        u32 atom = g->first + i, at = atom * s->plane + v->position;
        i16 *level = s->levels + at;
        if (s->public && !s->public[at]) continue;
        i64 down = t->direction[atom], across = t->direction[t->atoms + atom];
        u32 two = v->x >= 2 ? size_of(level[-2]) : 0;
        two += v->y >= 2 ? size_of(level[-2 * (i32)s->width]) : 0;
        for (u32 k = 0; k < 3; k++) in[k] = table[near[k * atoms + atom]];
        for (u32 k = 0; k < 3; k++) in[5 + k] = table[own[k * atoms + atom]];
        in[9] = logarithm(job, (down * d[0] + across * d[s->plane]) >> 4);
        in[10] = logarithm(job, (down * d[2 * s->plane] + across * d[3 * s->plane]) >> 4);
        in[11] = table[16 * two];
        in[12] = table[here[i]];
        in[13] = logarithm(job, met);
        u32 head = g->head + ENTRIES + v->pass, row = g->bias + v->pass * g->atoms + i, bit;
        i32 found, first;
        if (s->public) {
            u64 p = job->model->probability[slot(logit(job, head, row, in))];
            bit = code_given_public(s, atom, g->flagged ? p * flag >> 16 : p, !!*level);
            *level = bit ? s->public[at] : 0;
        } else {
            bit = decide(job, &job->support, head, row, i, in, !!*level, &found);
            if (job->mode == PRICE) s->prices[at] += worth(job, found) - UNSEEN;
            if (bit) *level = code_level(s, v, i, in, *level, &first);
            if (job->mode == PRICE && bit)
                s->prices[at] += BIT + job->model->cost[2 * slot(first)];
        }
        if (!bit) continue;
        u32 size = size_of(*level);
        met += size;
        for (u32 k = t->near_start[atom]; k < t->near_start[atom + 1]; k++)
            if (t->near_atom[k] > atom && t->near_atom[k] < g->first + g->atoms)
                add(here + t->near_atom[k] - g->first, t->near_weight[k] * size);
        note(s, g, atom, v->place, *level);
    }
}

static void note_known(Scan *s, const Visit *v) {
    const Group *g = v->group;
    for (u32 atom = g->first; atom < g->first + g->atoms; atom++) {
        i32 level = s->levels[atom * s->plane + v->position];
        if (level) note(s, g, atom, v->place, level);
    }
}

static void scan(Scan *s, u32 first, u32 stop) {
    static const u8 tops[4] = {0, 1, 0, 1}, lefts[4] = {0, 1, 1, 0};
    for (u32 n = 0; n < s->stack->group_count; n++) {
        const Group *g = s->stack->groups + n;
        if (g->first >= stop) break;
        for (u32 pass = 0; pass < PASSES; pass++)
            for (u32 y = tops[pass]; y < s->height; y += 2)
                for (u32 x = lefts[pass]; x < s->width; x += 2) {
                    Visit v = {g, pass, y, x, y * s->width + x, (y + 1) * s->row + x + 1};
                    u32 flag = 1;
                    if (g->first < first) {
                        note_known(s, &v);
                        continue;
                    }
                    if (g->flagged) flag = code_flag(s, &v);
                    if (flag) code_entries(s, &v, flag);
                }
        close_group(s);
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

static void *take(Job *job, u32 bytes) {
    u64 *start = (u64 *)job->work;
    u32 count = (bytes + 15) / 16 * 2;
    for (u32 i = 0; i < count; i++) start[i] = 0;
    job->work = (u8 *)(start + count);
    return start;
}

static Scan prepare(Job *job, const Stack *t, u32 height, u32 width, i16 *levels, const i16 *pub) {
    Scan s = {.job = job, .stack = t, .height = height, .width = width, .row = width + 2};
    s.plane = height * width;
    s.places = (height + 2) * s.row;
    s.atoms = (t->atoms + 7) / 8 * 8;
    s.levels = levels;
    s.public = pub;
    s.signs = t == job->stack ? job->model->signs : 0;
    s.near = take(job, s.places * 3 * s.atoms * sizeof(u16));
    s.own = take(job, s.places * 3 * s.atoms * sizeof(u16));
    s.sums = take(job, s.places * 9 * sizeof(i32));
    s.gradient = take(job, s.plane * 4 * sizeof(i32));
    s.public_count = take(job, t->atoms * sizeof(u32));
    for (u32 i = 0; pub && i < t->atoms * s.plane; i++) s.public_count[i / s.plane] += !!pub[i];
    if (job->mode != PRICE) return s;
    s.prices = take(job, t->atoms * s.plane * sizeof(i32));
    for (u32 i = 0; i < t->atoms * s.plane; i++) s.prices[i] = UNSEEN;
    return s;
}

typedef struct { /* blocks of the DC plane */
    u32 rows, columns, size;
} Blocks;

static void to_blocks(const Job *job, Blocks b, const i16 *plane, i16 *stack) {
    for (u32 i = 0; i < b.size * DC * DC; i++) {
        u32 atom = i / b.size, y = i % b.size / b.columns * DC + DOWN[atom];
        u32 x = i % b.columns * DC + ACROSS[atom];
        stack[i] = y < job->height && x < job->width ? plane[y * job->width + x] : 0;
    }
}

/* 0 if an entry lies outside the tile. */
static u32 from_blocks(const Job *job, Blocks b, const i16 *stack, const i32 *prices) {
    for (u32 i = 0; i < b.size * DC * DC; i++) {
        u32 atom = i / b.size, y = i % b.size / b.columns * DC + DOWN[atom];
        u32 x = i % b.columns * DC + ACROSS[atom];
        if (y >= job->height || x >= job->width) {
            if (stack[i]) return 0;
            continue;
        }
        job->levels[y * job->width + x] = stack[i];
        if (prices && job->prices) job->prices[y * job->width + x] = prices[i];
    }
    return 1;
}

__attribute__((export_name("run"))) u32 run(Job *job) {
    u32 h = job->height, w = job->width, decodes = job->mode == DECODE, has_dc = job->dc->atoms > 0;
    Blocks b = {(h + DC - 1) / DC, (w + DC - 1) / DC, 0};
    b.size = b.rows * b.columns;
    open_stream(&job->support, decodes);
    open_stream(&job->values, decodes);
    i32 *dc_prices = 0;
    i16 *stack = 0;
    if (has_dc && job->first == 0) {
        i16 *pub = job->public ? take(job, b.size * DC * DC * sizeof(i16)) : 0;
        stack = take(job, b.size * DC * DC * sizeof(i16));
        to_blocks(job, b, job->levels, stack);
        if (pub) to_blocks(job, b, job->public, pub);
        Scan s = prepare(job, job->dc, b.rows, b.columns, stack, pub);
        scan(&s, 0, DC * DC);
        dc_prices = s.prices;
        if (!from_blocks(job, b, stack, 0)) return 0;
    }
    Scan s = prepare(job, job->stack, h, w, job->levels, job->public);
    i32 *means = take(job, h * w * sizeof(i32));
    if (has_dc) find_gradient(job->levels, means, s.gradient, h, w);
    scan(&s, job->first, job->stop);
    if (job->mode == PRICE && job->prices) {
        const i32 *prices = s.prices + job->first * s.plane;
        for (u32 i = 0; i < (job->stop - job->first) * s.plane; i++) job->prices[i] = prices[i];
        if (stack) from_blocks(job, b, stack, dc_prices);
    }
    if (job->mode > DECODE) return 1;
    return close_stream(&job->support) & close_stream(&job->values);
}

/* Bits that are ones with the same probability, in 65536ths, to a stream or from one. */
__attribute__((export_name("flat"))) u32 flat(Coder *c, u8 *bits, u32 count, u32 probability) {
    open_stream(c, c->decodes);
    for (u32 i = 0; i < count; i++) bits[i] = code(c, probability, bits[i]);
    return close_stream(c);
}
