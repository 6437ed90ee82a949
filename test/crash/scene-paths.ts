/** What stands in the directory of a scene. */
export const HIVE = 'hive/db.sqlite';
export const STATE = 'state';
/** What readers were told, seq by seq. */
export const TOLD = 'told/seqs';
export const SCENE_DIRECTORIES = ['hive', STATE, 'told'];
/** The mirror is folded so often that each recording has many folds. */
export const FOLD_BYTES = 40 * 1024;
