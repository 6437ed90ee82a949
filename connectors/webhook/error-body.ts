/**
 * Answers that say 2xx and mean an error. Recognised in a JSON object: `success` or `ok` is false; `status` is "error" or "failed"
 * (Convex: `{"status":"error","errorMessage":…}`); `error` is something other than null, false and '';
 * `errors` is an array or object with something in it.
 */
export const tellsError = (answer: string | null): boolean => {
  const body = parseObject(answer);
  if (body === null) return false;
  const { success, ok, status, error, errors } = body;
  if (success === false || ok === false || status === 'error' || status === 'failed') return true;
  if (error !== undefined && error !== null && error !== false && error !== '') return true;
  return typeof errors === 'object' && errors !== null && Object.keys(errors).length > 0;
};

const parseObject = (answer: string | null): Record<string, unknown> | null => {
  if (answer === null || !answer.trimStart().startsWith('{')) return null;
  try {
    return JSON.parse(answer) as Record<string, unknown>;
  } catch {
    return null;
  }
};
