import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CONNECTORS } from '../../connectors/registry.ts';
import { configJsonSchema } from '../../src/config/json-schema.ts';
import { schemaFiles } from '../../src/config/schema-files.ts';
import { SINK_COMMON_OPTIONS } from '../../src/config/schema.ts';

describe('schemas/', () => {
  it.each(Object.entries(schemaFiles()))('%s is current (else: npm run schemas)', (name, text) => {
    expect(readFileSync(join(import.meta.dirname, '../../schemas', name), 'utf8')).toBe(text);
  });

  it('asyncapi.json refers to nothing that is not there', () => {
    const document = schemaFiles()['asyncapi.json']!;
    const refs = [...document.matchAll(/"\$ref": "#\/([^"]+)"/g)].map(([, path]) => path!.split('/'));
    const found = (path: readonly string[]): unknown =>
      path.reduce<unknown>((value, name) => (value as Record<string, unknown> | undefined)?.[name], JSON.parse(document));
    expect(refs.length).toBeGreaterThan(8);
    for (const path of refs) expect([path, typeof found(path)]).toEqual([path, 'object']);
  });

  it('knows every type of sink, and no option of a connector hides a common one', () => {
    const sinks = configJsonSchema().properties!['sinks']!.additionalProperties;
    const types = (typeof sinks === 'object' ? sinks.oneOf! : []).map((sink) => sink.properties!['type']!.const);
    expect(types).toEqual(Object.keys(CONNECTORS));
    for (const connector of Object.values(CONNECTORS)) {
      const options = 'shape' in connector.options ? Object.keys(connector.options.shape as object) : [];
      expect(options.filter((option) => [...SINK_COMMON_OPTIONS, 'type'].includes(option))).toEqual([]);
    }
  });
});
