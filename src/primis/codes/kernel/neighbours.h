/* What is known around a place: sums of sizes, from which inputs follow. */

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
