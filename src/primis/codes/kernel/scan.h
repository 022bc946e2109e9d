/* The scan: groups from coarse to fine, each in four passes over its positions */

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
