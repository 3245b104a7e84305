// The public /v1 API, with problem bodies turned into errors a person can read.

/** @param {string} path below /v1/ @param {RequestInit} [options] */
export async function api(path, options) {
  const response = await fetch(`/v1/${path}`, options);
  if (response.ok) return response.json();
  const problem = await response.json().catch(() => ({}));
  throw new Error(problem.detail ?? problem.title ?? `${response.status} from /v1/${path}`);
}
