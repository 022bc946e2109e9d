/* Decisions: priced, observed, coded or decoded; and a level, which takes several. */

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
