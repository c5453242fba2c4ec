import{l as n}from"./chunk-C4LWDG7K.js";var l=n(null);export{l as a};
