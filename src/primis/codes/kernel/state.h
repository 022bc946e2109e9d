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
