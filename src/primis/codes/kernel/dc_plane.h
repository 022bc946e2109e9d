/* The DC plane: blocks of 4 x 4 positions, and how its means change from position to position */

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
