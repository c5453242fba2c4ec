import{l as n}from"./chunk-LYFLPCYE.js";var l=n(null);export{l as a};
