/**
 * The reader engine: what the user interface imports, and nothing else.
 *
 *     const identities = await readIdentities(keyFile);
 *     const decoder = new Codec(httpAssets("https://viewer/assets"));
 *     const place = httpPlace("https://host/release");
 *     const release = await openRelease(place, identities, { decoder });
 *     const image = await release.open((await release.images())[0].id);
 *     const { data, height, width } = await image.read("diagnostic");
 */
export * from "./errors.ts";
export { Codec } from "./codec/codec.ts";
export type { Decoder } from "./codec/job.ts";
export { passphraseIdentity, readIdentities, type Ask, type Identity } from "./keys/identity.ts";
export { httpAssets } from "./release/assets.ts";
export { httpPlace } from "./release/places.ts";
export { modelsOf, openRelease, type OpenOptions } from "./release/reader.ts";
export * from "./release/types.ts";
