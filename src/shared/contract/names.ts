/** Forms of names, apart from the schemas so that the CLI can check one without loading those. */

export const NAME_PATTERN = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** Image and kernel names: like VM names, with dots and underscores. */
export const IMAGE_NAME_PATTERN = /^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$/;
