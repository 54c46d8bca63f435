// The heat map: which patches of the image the model looked at for an answer.

import { element, percent } from "./elements.js";

/** The pixels of the heat map for each patch. */
const PATCH_PIXELS = 24;

const LEGEND_PIXELS = 256;

/** Colours from no attention to the highest weight: red, green, blue and opacity. */
const COLOURS = [
  [20, 20, 110, 90],
  [120, 30, 150, 120],
  [215, 60, 90, 160],
  [250, 150, 40, 190],
  [255, 240, 120, 215],
];

/**
 * Returns the heat map of an answer as a figure, or null if the response has none.
 *
 * `attention` has the weights of all patches, row by row. Their sum is 1. `preview` is the URL of
 * the image, or null.
 */
export function heatMap(attention, preview, answer) {
  const { rows, columns, weights } = attention ?? {};
  if (!(rows > 0 && columns > 0 && weights?.length === rows * columns)) {
    return null;
  }
  const highest = Math.max(...weights);
  const patches = colourCanvas(columns, rows, (index) => weights[index] / highest);
  const canvas = document.createElement("canvas");
  canvas.width = columns * PATCH_PIXELS;
  canvas.height = rows * PATCH_PIXELS;
  canvas.getContext("2d").drawImage(patches, 0, 0, canvas.width, canvas.height);
  const place = weights.indexOf(highest);
  const [row, column] = [Math.floor(place / columns) + 1, (place % columns) + 1];
  const text = `Where the model looked for “${answer}”. The patch in row ${row} of ${rows} and column ${column} of `
    + `${columns} has the highest weight, ${percent(highest)}.`;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", text);
  const layers = element("div", preview === null ? "layers without-image" : "layers");
  if (preview !== null) {
    const image = document.createElement("img");
    image.alt = "";
    image.src = preview;
    layers.append(image);
  }
  // The model scales the image to a square, so that the patches cover all of it.
  layers.append(canvas);
  return element("figure", "heat-map", layers, legend(highest), element("figcaption", "", text));
}

function legend(highest) {
  const scale = colourCanvas(LEGEND_PIXELS, 1, (index) => index / (LEGEND_PIXELS - 1));
  scale.setAttribute("aria-hidden", "true");
  return element("div", "legend", "0 %", scale, percent(highest));
}

/** Returns a canvas with one pixel for each value. `share` returns a value from 0 to 1. */
function colourCanvas(columns, rows, share) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(columns, rows);
  for (let index = 0; index < columns * rows; index += 1) {
    pixels.data.set(colour(share(index)), 4 * index);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

function colour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (COLOURS.length - 1);
  const index = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[index].map((low, channel) => low + (COLOURS[index + 1][channel] - low) * (place - index));
}
