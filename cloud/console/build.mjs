// Bundles each third-party library of the console into one file under static/vendor, with its licence beside it.
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = fileURLToPath(new URL('.', import.meta.url));
const out = `${here}../src/tieline_cloud/console/static/vendor`;
const libraries = { 'lit-html': "export * from 'lit-html';", uplot: "export { default } from 'uplot';" };

await mkdir(out, { recursive: true });
const licences = [];
for (const [name, contents] of Object.entries(libraries)) {
  await build({
    stdin: { contents, resolveDir: here },
    bundle: true, format: 'esm', minify: true, target: 'es2022', outfile: `${out}/${name}.js`, logLevel: 'error',
  });
  const { version, license } = JSON.parse(await readFile(`${here}node_modules/${name}/package.json`, 'utf8'));
  licences.push(`${name} ${version} (${license})\n\n${await readFile(`${here}node_modules/${name}/LICENSE`, 'utf8')}`);
}
await copyFile(`${here}node_modules/uplot/dist/uPlot.min.css`, `${out}/uplot.css`);
await writeFile(`${out}/LICENCES.txt`, licences.join('\n\n---\n\n'));
