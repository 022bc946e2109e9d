/* The model: heads of logistic regressions, and the inputs that they are evaluated on. */

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
