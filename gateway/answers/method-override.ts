/** Headers by which many frameworks take a request for one with another method, spelt with dashes. */
const OVERRIDES = new Set(['x-http-method-override', 'x-http-method', 'x-method-override']);

/** Header lines without those that would make another method of the one that the route allows. */
export function withoutMethodOverrides(headers: string[]): string[] {
  const kept: string[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string;
    // To a CGI-like upstream an underscore is a dash.
    if (!OVERRIDES.has(name.toLowerCase().replaceAll('_', '-'))) kept.push(name, headers[i + 1] as string);
  }
  return kept.length === headers.length ? headers : kept;
}
