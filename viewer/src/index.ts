/**
 * The reader engine: what the user interface imports, and nothing else.
 *
 *     const identities = await readIdentities(keyFileText);
 *     const release = await openRelease(httpPlace("https://host/release"), identities, { assets });
 *     const image = await release.open((await release.images())[0].id);
 *     const { data, height, width } = await image.read("diagnostic");
 */
export * from "./errors.ts";
export * from "./release/types.ts";
