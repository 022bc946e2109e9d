/* The range coder: two ends of a 64-bit interval, a byte leaves when both begin with it */

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
