/* What the host lays out in memory, and the numbers that it is made for. */

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

enum { ENCODE, DECODE, PRICE, OBSERVE };                 /* modes of a Job */
enum { ENTRIES = 0, LEVELS = 4, BITS = 16, FLAGS = 23 }; /* heads of a group, from its first */

enum {
    FEATURES = 14,
    INPUTS = 16, /* the features, the density and UNIT */
    UNIT = 8,    /* a feature whose sum is one */
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
    LANES = 8,      /* atoms that are looked up together */
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
   Inputs lie in pairs, which one instruction multiplies and adds. present: for those above zero. */
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
