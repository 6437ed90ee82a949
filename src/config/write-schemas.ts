/** `npm run schemas`: writes schemas/*.json. A test compares them with what this would write. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { schemaFiles } from './schema-files.ts';

for (const [name, text] of Object.entries(schemaFiles())) {
  writeFileSync(fileURLToPath(new URL(`../../schemas/${name}`, import.meta.url)), text);
}
